// The RabbitMQ Java client. Run by the suite in tests/clients; README.md there has the command line.
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.MessageProperties;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.Scanner;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

public class Client {
    interface Settle {
        void settle(Channel channel, Delivery delivery) throws IOException;
    }

    static Connection connect() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(System.getenv("AMQP").replaceAll("/$", "")); // to this client a last slash means a virtual host without a name
        factory.setNetworkRecoveryInterval(200); // recovery is automatic
        return factory.newConnection();
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "topology" -> topology(args[1], args[2]);
            case "publish" -> publish(args[1]);
            case "unroutable" -> unroutable(args[1]);
            case "consume" -> take(args[1], args[2], args[3], Client::showAndAck);
            case "requeue" -> take(args[1], "1", "2", (channel, delivery) -> {
                show(delivery);
                long tag = delivery.getEnvelope().getDeliveryTag();
                if (delivery.getEnvelope().isRedeliver()) channel.basicAck(tag, false);
                else channel.basicNack(tag, false, true);
            });
            case "reject" -> take(args[1], "5", args[2],
                (channel, delivery) -> channel.basicReject(delivery.getEnvelope().getDeliveryTag(), false));
            case "dead" -> take(args[1], "5", args[2], (channel, delivery) -> {
                Map<?, ?> death = (Map<?, ?>) ((List<?>) delivery.getProperties().getHeaders().get("x-death")).get(0);
                System.out.printf("%s\t%s\t%s\t%s%n", death.get("reason"), death.get("queue"), death.get("count"),
                    new String(delivery.getBody(), "UTF-8"));
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            });
            case "follow" -> take(args[1], "1", args[2], Client::showAndAck);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static void topology(String name, String type) throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.exchangeDeclare(name + "-dlx", "fanout", true);
            channel.queueDeclare(name + "-dead", true, false, false, null);
            channel.queueBind(name + "-dead", name + "-dlx", "");
            channel.exchangeDeclare(name, "direct", true);
            Map<String, Object> arguments = Map.of("x-dead-letter-exchange", name + "-dlx", "x-queue-type", type);
            channel.queueDeclare(name, true, false, false, arguments);
            channel.queueBind(name, name, "orders");
        }
    }

    static void publish(String name) throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            Scanner lines = new Scanner(System.in, "UTF-8");
            AMQP.BasicProperties properties = MessageProperties.PERSISTENT_TEXT_PLAIN.builder().headers(Map.of("client", "java")).build();
            while (lines.hasNextLine()) {
                channel.basicPublish(name, "orders", true, properties, lines.nextLine().getBytes("UTF-8"));
            }
            channel.waitForConfirmsOrDie(20_000);
        }
    }

    static void unroutable(String name) throws Exception {
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            CountDownLatch returned = new CountDownLatch(1);
            channel.addReturnListener(message -> {
                System.out.printf("%d\t%s%n", message.getReplyCode(), message.getReplyText());
                returned.countDown();
            });
            channel.basicPublish(name, "nowhere", true, null, "lost".getBytes());
            if (!returned.await(10, TimeUnit.SECONDS)) throw new IllegalStateException("nothing was returned");
        }
    }

    static void show(Delivery delivery) throws IOException {
        System.out.printf("%b\t%s%n", delivery.getEnvelope().isRedeliver(), new String(delivery.getBody(), "UTF-8"));
        System.out.flush();
    }

    static void showAndAck(Channel channel, Delivery delivery) throws IOException {
        show(delivery);
        channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
    }

    static void take(String queue, String prefetch, String count, Settle settle) throws Exception {
        AtomicInteger left = new AtomicInteger(Integer.parseInt(count));
        CountDownLatch done = new CountDownLatch(1);
        try (Connection connection = connect(); Channel channel = connection.createChannel()) {
            channel.basicQos(Integer.parseInt(prefetch));
            channel.basicConsume(queue, false, (tag, delivery) -> {
                if (left.get() == 0) return;
                settle.settle(channel, delivery);
                if (left.decrementAndGet() == 0) done.countDown();
            }, tag -> { });
            if (!done.await(60, TimeUnit.SECONDS)) throw new IllegalStateException(left + " messages are missing");
        }
    }
}
