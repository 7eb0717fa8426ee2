"""At least once (seed section 2, "Delivery Guarantees"): the offset is committed after the work is done.

The worker that dies after order 3 was done and before it was committed is given order 3 again: nothing is lost.
"""
from guarantees import DEATH, ORDERS, five_orders, next_order, worker

done = []
topic = five_orders()
consumer = worker(topic, **{'enable.auto.commit': False})
order = 0
while order < DEATH:
    message, order = next_order(consumer)
    done.append(order)
    if order < DEATH:
        consumer.commit(message, asynchronous=False)
consumer.close()  # died before order 3 was committed

consumer = worker(topic, **{'enable.auto.commit': False})
while order < ORDERS or len(done) == DEATH:
    message, order = next_order(consumer)
    done.append(order)
    consumer.commit(message, asynchronous=False)
consumer.close()
print("done:", *done)
