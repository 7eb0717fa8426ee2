// sarama. Run by the suite in tests/clients; README.md there has the command line.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
)

var kafka = []string{os.Getenv("KAFKA")}

func main() {
	commands := map[string]func([]string) error{
		"create": create, "delete": remove, "produce": produce, "transact": transact, "read": read, "group": group, "member": member,
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	return c
}

func administer(work func(sarama.ClusterAdmin) error) error {
	admin, err := sarama.NewClusterAdmin(kafka, config())
	if err != nil {
		return err
	}
	defer admin.Close()
	return work(admin)
}

func create(args []string) error {
	partitions, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return administer(func(admin sarama.ClusterAdmin) error {
		return admin.CreateTopic(args[0], &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1}, false)
	})
}

func remove(args []string) error {
	return administer(func(admin sarama.ClusterAdmin) error { return admin.DeleteTopic(args[0]) })
}

// The lines of the input as messages of partition 0.
func messages(topic string) []*sarama.ProducerMessage {
	var messages []*sarama.ProducerMessage
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		messages = append(messages, &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(key), Value: sarama.StringEncoder(value),
		})
	}
	return messages
}

func produce(args []string) error {
	codecs := map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	acks := map[string]sarama.RequiredAcks{
		"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll, "idempotent": sarama.WaitForAll,
	}
	c := config()
	c.Producer.Compression = codecs[args[1]]
	c.Producer.RequiredAcks = acks[args[2]]
	if args[2] == "idempotent" {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewSyncProducer(kafka, c)
	if err != nil {
		return err
	}
	defer producer.Close()
	return producer.SendMessages(messages(args[0]))
}

func transact(args []string) error {
	c := config()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Idempotent = true
	c.Producer.Transaction.ID = args[1]
	c.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer(kafka, c)
	if err != nil {
		return err
	}
	defer producer.Close()
	for _, message := range messages(args[0]) {
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		if _, _, err := producer.SendMessage(message); err != nil {
			return err
		}
		value, _ := message.Value.Encode()
		end := producer.CommitTxn
		if strings.HasPrefix(string(value), "!") {
			end = producer.AbortTxn
		}
		if err := end(); err != nil {
			return err
		}
	}
	return nil
}

func show(message *sarama.ConsumerMessage) {
	fmt.Printf("%d\t%s\t%s\n", message.Offset, message.Key, message.Value)
}

func read(args []string) error {
	client, err := sarama.NewClient(kafka, config())
	if err != nil {
		return err
	}
	defer client.Close()
	offset := sarama.OffsetOldest
	if at, isTime := strings.CutPrefix(args[1], "@"); isTime {
		milliseconds, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return err
		}
		if offset, err = client.GetOffset(args[0], 0, milliseconds); err != nil {
			return err
		}
	} else if args[1] != "beginning" {
		if offset, err = strconv.ParseInt(args[1], 10, 64); err != nil {
			return err
		}
	}
	wanted, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	partition, err := consumer.ConsumePartition(args[0], 0, offset)
	if err != nil {
		return err
	}
	for timeout := time.After(30 * time.Second); wanted > 0; wanted-- {
		select {
		case message := <-partition.Messages():
			show(message)
		case err := <-partition.Errors():
			return err
		case <-timeout:
			return fmt.Errorf("%d records are missing", wanted)
		}
	}
	return nil
}

// handler shows messages until enough were seen, then commits and lets the group end.
type handler struct {
	left int
	done context.CancelFunc
}

func (h *handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for h.left > 0 {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			show(message)
			session.MarkMessage(message, "")
			h.left--
		case <-session.Context().Done():
			return nil
		}
	}
	session.Commit()
	h.done()
	return nil
}

func group(args []string) error {
	wanted, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	members, err := sarama.NewConsumerGroup(kafka, args[1], config())
	if err != nil {
		return err
	}
	defer members.Close()
	ctx, done := context.WithTimeout(context.Background(), 40*time.Second)
	defer done()
	h := &handler{left: wanted, done: done}
	for h.left > 0 && ctx.Err() == nil {
		if err := members.Consume(ctx, []string{args[0]}, h); err != nil {
			return err
		}
	}
	if h.left > 0 {
		return fmt.Errorf("%d records are missing", h.left)
	}
	return nil
}

// sitter shows what it has and what it gets, and commits before it says so.
type sitter struct{ topic string }

func (s sitter) Setup(session sarama.ConsumerGroupSession) error {
	var names []string
	for _, partition := range session.Claims()[s.topic] {
		names = append(names, strconv.Itoa(int(partition)))
	}
	slices.Sort(names)
	fmt.Println("has " + strings.Join(names, ","))
	return nil
}

func (s sitter) Cleanup(sarama.ConsumerGroupSession) error {
	fmt.Println("has ")
	return nil
}

func (s sitter) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		session.MarkMessage(message, "")
		session.Commit()
		fmt.Printf("got %d %s\n", message.Partition, message.Value)
	}
	return nil
}

func member(args []string) error {
	c := config()
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	members, err := sarama.NewConsumerGroup(kafka, args[1], c)
	if err != nil {
		return err
	}
	defer members.Close()
	ctx, end := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	for ctx.Err() == nil {
		if err := members.Consume(ctx, []string{args[0]}, sitter{args[0]}); err != nil {
			return err
		}
	}
	return nil
}
