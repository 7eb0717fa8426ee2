"""A Celery application; run as a program it hands out tasks and prints what comes back."""
import os
import sys

from celery import Celery, chord

QUEUE = os.environ["CELERY_QUEUE"]
app = Celery("orders", broker=os.environ["AMQP"], backend=f"file://{os.environ['CELERY_RESULTS']}")
app.conf.update(task_default_queue=QUEUE, broker_connection_retry_on_startup=True, task_acks_late=True,
                broker_transport_options={"confirm_publish": True}, result_chord_retry_interval=0.2)


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def third_time_lucky(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


def main():
    print("task", add.delay(2, 3).get(timeout=30), sep="\t")
    print("retries", third_time_lucky.delay().get(timeout=30), sep="\t")
    print("chord", chord([add.s(i, i) for i in range(5)])(total.s()).get(timeout=30), sep="\t")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    import celery_app  # the tasks under the name the worker knows them by
    celery_app.main()
