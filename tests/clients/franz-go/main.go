// franz-go. Run by the suite in tests/clients; README.md there has the command line.
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
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	commands := map[string]func(context.Context, []string) error{
		"create": create, "delete": remove, "produce": produce, "transact": transact, "read": read, "group": group, "member": member,
	}
	if err := commands[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(os.Getenv("KAFKA")))...)
}

func administer(work func(*kadm.Client) error) error {
	c, err := client()
	if err != nil {
		return err
	}
	defer c.Close()
	return work(kadm.NewClient(c))
}

func create(ctx context.Context, args []string) error {
	partitions, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return administer(func(admin *kadm.Client) error {
		_, err := admin.CreateTopic(ctx, int32(partitions), 1, nil, args[0])
		return err
	})
}

func remove(ctx context.Context, args []string) error {
	return administer(func(admin *kadm.Client) error {
		_, err := admin.DeleteTopic(ctx, args[0])
		return err
	})
}

func produce(ctx context.Context, args []string) error {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(codecs[args[1]]), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}
	switch args[2] {
	case "0":
		options = append(options, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "1":
		options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "all":
		options = append(options, kgo.DisableIdempotentWrite())
	}
	c, err := client(options...)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ProduceSync(ctx, records(args[0])...).FirstErr()
}

// The lines of the input as records.
func records(topic string) []*kgo.Record {
	var records []*kgo.Record
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		records = append(records, &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)})
	}
	return records
}

func transact(ctx context.Context, args []string) error {
	c, err := client(kgo.TransactionalID(args[1]), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer c.Close()
	for _, record := range records(args[0]) {
		if err := c.BeginTransaction(); err != nil {
			return err
		}
		if err := c.ProduceSync(ctx, record).FirstErr(); err != nil {
			return err
		}
		commit := kgo.TransactionEndTry(!strings.HasPrefix(string(record.Value), "!"))
		if err := c.EndTransaction(ctx, commit); err != nil {
			return err
		}
	}
	return nil
}

func read(ctx context.Context, args []string) error {
	offset := kgo.NewOffset().AtStart()
	if at, isTime := strings.CutPrefix(args[1], "@"); isTime {
		milliseconds, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return err
		}
		offset = kgo.NewOffset().AfterMilli(milliseconds)
	} else if args[1] != "beginning" {
		at, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return err
		}
		offset = kgo.NewOffset().At(at)
	}
	c, err := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{args[0]: {0: offset}}))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = show(ctx, c, args[2])
	return err
}

func group(ctx context.Context, args []string) error {
	c, err := client(kgo.ConsumerGroup(args[1]), kgo.ConsumeTopics(args[0]), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer c.Close()
	shown, err := show(ctx, c, args[2])
	if err != nil {
		return err
	}
	return c.CommitRecords(ctx, shown...)
}

// held is what a member has, with its way of telling so. Partitions come and go one by one (cooperative-sticky).
type held struct {
	sync.Mutex
	topic      string
	partitions map[int32]bool
}

func (h *held) change(places map[string][]int32, has bool) {
	h.Lock()
	defer h.Unlock()
	for _, partition := range places[h.topic] {
		if has {
			h.partitions[partition] = true
		} else {
			delete(h.partitions, partition)
		}
	}
	var names []string
	for partition := range h.partitions {
		names = append(names, strconv.Itoa(int(partition)))
	}
	slices.Sort(names)
	fmt.Println("has " + strings.Join(names, ","))
}

func member(_ context.Context, args []string) error {
	has := &held{topic: args[0], partitions: map[int32]bool{}}
	gone := func(_ context.Context, _ *kgo.Client, places map[string][]int32) { has.change(places, false) }
	c, err := client(kgo.ConsumerGroup(args[1]), kgo.ConsumeTopics(args[0]), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, places map[string][]int32) { has.change(places, true) }),
		kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone), kgo.BlockRebalanceOnPoll())
	if err != nil {
		return err
	}
	defer c.CloseAllowingRebalance()
	ctx, end := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	for ctx.Err() == nil {
		fetches := c.PollRecords(ctx, 1000)
		if records := fetches.Records(); len(records) > 0 {
			if err := c.CommitRecords(ctx, records...); err != nil {
				return err
			}
			for _, record := range records {
				fmt.Printf("got %d %s\n", record.Partition, record.Value)
			}
		}
		c.AllowRebalance()
	}
	return nil
}

func show(ctx context.Context, c *kgo.Client, count string) ([]*kgo.Record, error) {
	wanted, err := strconv.Atoi(count)
	if err != nil {
		return nil, err
	}
	var shown []*kgo.Record
	for len(shown) < wanted {
		fetches := c.PollRecords(ctx, wanted-len(shown))
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		for _, record := range fetches.Records() {
			fmt.Printf("%d\t%s\t%s\n", record.Offset, record.Key, record.Value)
			shown = append(shown, record)
		}
	}
	return shown, nil
}
