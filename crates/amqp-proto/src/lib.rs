//! AMQP 0-9-1 without a socket, as RabbitMQ speaks it.
