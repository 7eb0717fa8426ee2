"""At most once (seed section 2, "Delivery Guarantees"): the offset is committed before the work is done.

The worker that dies in the middle of order 3 has committed it already: order 3 is lost, nothing is done twice.
"""
from guarantees import DEATH, ORDERS, five_orders, next_order, worker

done = []
topic = five_orders()
consumer = worker(topic, **{'enable.auto.commit': False})
order = 0
while order < DEATH:
    message, order = next_order(consumer)
    consumer.commit(message, asynchronous=False)
    if order < DEATH:
        done.append(order)
consumer.close()  # died before order 3 was done

consumer = worker(topic, **{'enable.auto.commit': False})
while order < ORDERS:
    message, order = next_order(consumer)
    consumer.commit(message, asynchronous=False)
    done.append(order)
consumer.close()
print("done:", *done)
