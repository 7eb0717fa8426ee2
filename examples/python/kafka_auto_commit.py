"""The seed's way to at most once: `enable.auto.commit`, and no retry of what failed.

The offset of an order that was handed out is committed on a timer and on close, whether its work succeeded or not.
"""
from guarantees import DEATH, ORDERS, five_orders, next_order, worker

done = []
topic = five_orders()
consumer = worker(topic, **{'enable.auto.commit': True, 'auto.commit.interval.ms': 100})
order = 0
while order < DEATH:
    _, order = next_order(consumer)
    if order < DEATH:
        done.append(order)
consumer.close()  # commits what was handed out, order 3 too

consumer = worker(topic, **{'enable.auto.commit': True, 'auto.commit.interval.ms': 100})
while order < ORDERS:
    _, order = next_order(consumer)
    done.append(order)
consumer.close()
print("done:", *done)
