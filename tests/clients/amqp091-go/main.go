// amqp091-go. Run by the suite in tests/clients; README.md there has the command line.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func main() {
	commands := map[string]func([]string) error{
		"topology": topology, "publish": publish, "unroutable": unroutable, "consume": consume,
		"requeue": requeue, "reject": reject, "dead": dead, "follow": follow,
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func open() (*amqp.Connection, *amqp.Channel, error) {
	connection, err := amqp.Dial(os.Getenv("AMQP"))
	if err != nil {
		return nil, nil, err
	}
	channel, err := connection.Channel()
	return connection, channel, err
}

func topology(args []string) error {
	connection, channel, err := open()
	if err != nil {
		return err
	}
	defer connection.Close()
	name := args[0]
	if err := channel.ExchangeDeclare(name+"-dlx", "fanout", true, false, false, false, nil); err != nil {
		return err
	}
	if _, err := channel.QueueDeclare(name+"-dead", true, false, false, false, nil); err != nil {
		return err
	}
	if err := channel.QueueBind(name+"-dead", "", name+"-dlx", false, nil); err != nil {
		return err
	}
	if err := channel.ExchangeDeclare(name, "direct", true, false, false, false, nil); err != nil {
		return err
	}
	arguments := amqp.Table{"x-dead-letter-exchange": name + "-dlx", "x-queue-type": args[1]}
	if _, err := channel.QueueDeclare(name, true, false, false, false, arguments); err != nil {
		return err
	}
	return channel.QueueBind(name, "orders", name, false, nil)
}

func publish(args []string) error {
	connection, channel, err := open()
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := channel.Confirm(false); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var waiting []*amqp.DeferredConfirmation
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		message := amqp.Publishing{
			DeliveryMode: amqp.Persistent, ContentType: "text/plain",
			Headers: amqp.Table{"client": "amqp091-go"}, Body: append([]byte(nil), lines.Bytes()...),
		}
		confirm, err := channel.PublishWithDeferredConfirm(args[0], "orders", true, false, message)
		if err != nil {
			return err
		}
		waiting = append(waiting, confirm)
	}
	for _, confirm := range waiting {
		if confirmed, err := confirm.WaitContext(ctx); err != nil || !confirmed {
			return errors.Join(err, fmt.Errorf("publish %d was not confirmed", confirm.DeliveryTag))
		}
	}
	return nil
}

func unroutable(args []string) error {
	connection, channel, err := open()
	if err != nil {
		return err
	}
	defer connection.Close()
	returned := channel.NotifyReturn(make(chan amqp.Return, 1))
	message := amqp.Publishing{Body: []byte("lost")}
	if err := channel.PublishWithContext(context.Background(), args[0], "nowhere", true, false, message); err != nil {
		return err
	}
	select {
	case message := <-returned:
		fmt.Printf("%d\t%s\n", message.ReplyCode, message.ReplyText)
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("nothing was returned")
	}
}

// take hands `count` messages to `settle`; it returns how many are missing.
func take(queue, prefetch, count string, settle func(amqp.Delivery) error) (int, error) {
	left, err := strconv.Atoi(count)
	if err != nil {
		return left, err
	}
	limit, err := strconv.Atoi(prefetch)
	if err != nil {
		return left, err
	}
	connection, channel, err := open()
	if err != nil {
		return left, err
	}
	defer connection.Close()
	if err := channel.Qos(limit, 0, false); err != nil {
		return left, err
	}
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		return left, err
	}
	for timeout := time.After(20 * time.Second); left > 0; left-- {
		select {
		case delivery, open := <-deliveries:
			if !open {
				return left, errors.New("the channel was closed")
			}
			if err := settle(delivery); err != nil {
				return left, err
			}
		case <-timeout:
			return left, fmt.Errorf("%d messages are missing", left)
		}
	}
	return 0, nil
}

func show(delivery amqp.Delivery) {
	fmt.Printf("%t\t%s\n", delivery.Redelivered, delivery.Body)
}

func showAndAck(delivery amqp.Delivery) error {
	show(delivery)
	return delivery.Ack(false)
}

func consume(args []string) error {
	_, err := take(args[0], args[1], args[2], showAndAck)
	return err
}

func requeue(args []string) error {
	_, err := take(args[0], "1", "2", func(delivery amqp.Delivery) error {
		show(delivery)
		if delivery.Redelivered {
			return delivery.Ack(false)
		}
		return delivery.Nack(false, true)
	})
	return err
}

func reject(args []string) error {
	_, err := take(args[0], "5", args[1], func(delivery amqp.Delivery) error { return delivery.Reject(false) })
	return err
}

func dead(args []string) error {
	_, err := take(args[0], "5", args[1], func(delivery amqp.Delivery) error {
		deaths, _ := delivery.Headers["x-death"].([]interface{})
		if len(deaths) == 0 {
			return errors.New("no x-death")
		}
		death, _ := deaths[0].(amqp.Table)
		fmt.Printf("%v\t%v\t%v\t%s\n", death["reason"], death["queue"], death["count"], delivery.Body)
		return delivery.Ack(false)
	})
	return err
}

func follow(args []string) error {
	left := args[1]
	for end := time.Now().Add(time.Minute); left != "0" && time.Now().Before(end); {
		missing, err := take(args[0], "1", left, showAndAck)
		left = strconv.Itoa(missing)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
	return nil
}
