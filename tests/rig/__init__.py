"""Real brokers for the tests: Apache Kafka, RabbitMQ and Ottla, started on loopback, stopped by their own id.

Standard library only. What has to be fetched lies in a cache folder outside the repository (`cache.folder()`).
"""
