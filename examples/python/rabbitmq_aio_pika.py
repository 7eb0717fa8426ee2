"""Seed section 3, "Async RabbitMQ (aio-pika)"."""
import aio_pika
import asyncio

async def main():
    connection = await aio_pika.connect_robust("amqp://localhost/")
    
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        
        queue = await channel.declare_queue("orders", durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b"order 123"), "orders")  # added: something to receive
        
        async with queue.iterator() as queue_iter:
            async for message in queue_iter:
                async with message.process():
                    print(f"Received: {message.body}")
                    # Auto-ack on context exit
                break  # added: the end of the loop
        left = (await channel.declare_queue("orders", passive=True)).declaration_result.message_count  # added
        print(f"{left} orders left")  # added: shows the acknowledgement
        await queue.delete()  # added: others declare it with arguments, see docs/guide/orders-406.md

asyncio.run(main())  # added
