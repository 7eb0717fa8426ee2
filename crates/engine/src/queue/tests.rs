//! Stories of one queue: a script of what clients do, and everything the queue makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_store::Lsn;

use super::*;
use crate::clock::{Monotonic, Now, Wall};

/// Runs a script against a queue and compares all effects. Messages have one-letter names.
///
/// `pub a prio=1 ttl=100 bytes=9` (several: `pub a b`), `consume c1 ch=1 prefetch=2 priority=5
/// exclusive no_ack timeout=9 credit=3`, `get`, `ack a`, `nack a`, `reject a`, `dead a`, `recover 1`,
/// `lose 1`, `cancel c1`, `credit c1 2`, `limit 1 3 0`, `wait 100`, `purge`, `touch`, `delete
/// if_unused`. Effects: `c1<a` delivered, `got a (2 more)`, `a!` redelivered, `-a` settled,
/// `a#1/2` counted (failed/returned), `a+maxlen` dead.
#[track_caller]
fn check(settings: Settings, script: &str, expected: &str) {
    let mut story = Story::new(settings);
    script.split(';').for_each(|step| story.step(step.trim()));
    assert_eq!(story.told.join(" "), expected, "\nscript: {script}");
}

struct Story {
    machine: Machine,
    now: u64,
    told: Vec<String>,
    holders: BTreeMap<Lsn, ChannelKey>,
    channels: BTreeMap<ConsumerId, ChannelKey>,
}

impl Story {
    fn new(settings: Settings) -> Self {
        let machine = Machine::new(Arc::new(settings), at(0));
        let (told, holders, channels) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { machine, now: 0, told, holders, channels }
    }

    fn step(&mut self, step: &str) {
        let mut words = step.split(' ').peekable();
        let verb = words.next().unwrap();
        let (names, options): (Vec<&str>, Vec<&str>) = words
            .partition(|word| !word.contains('=') && !word.contains('_') && *word != "exclusive");
        let option = |name: &str| {
            let found = options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.parse::<u64>().unwrap())
        };
        let seqs: Vec<Lsn> = names.iter().map(|name| Lsn(name.as_bytes()[0].into())).collect();
        let channel = |story: &Self| *story.holders.get(&seqs[0]).unwrap_or(&ChannelKey(0));
        let outcome = match verb {
            "ack" => Some(Outcome::Ack),
            "nack" => Some(Outcome::Nack),
            "reject" => Some(Outcome::Reject),
            "dead" => Some(Outcome::Dead),
            _ => None,
        };
        if let Some(outcome) = outcome {
            let channel = channel(self);
            return self.run(Command::Settle { channel, messages: &seqs, outcome });
        }
        match verb {
            "pub" => {
                let settings = Arc::clone(self.machine.settings());
                let (expires_at, immediate) = settings.expiry(at(self.now).wall, option("ttl"));
                let priority = settings.lane(option("prio").map(|n| u8::try_from(n).unwrap()));
                let bytes = u32::try_from(option("bytes").unwrap_or(1)).unwrap();
                let entry =
                    |seq| Entry { expires_at, immediate, priority, ..Entry::new(seq, bytes) };
                let entries: Vec<Entry> = seqs.iter().map(|seq| entry(*seq)).collect();
                self.run(Command::Visible { entries: &entries });
            }
            "consume" => {
                let channel = ChannelKey(option("ch").unwrap_or(number(&names, 0)));
                self.channels.insert(ConsumerId(number(&names, 0)), channel);
                self.run(Command::Consume(Consume {
                    consumer: ConsumerId(number(&names, 0)),
                    channel,
                    prefetch: u32::try_from(option("prefetch").unwrap_or(0)).unwrap(),
                    credit: u32::try_from(option("credit").unwrap_or(u32::MAX.into())).unwrap(),
                    priority: i32::try_from(option("priority").unwrap_or(0)).unwrap(),
                    exclusive: options.contains(&"exclusive"),
                    no_ack: options.contains(&"no_ack"),
                    timeout: option("timeout"),
                }));
            }
            "get" => {
                let no_ack = options.contains(&"no_ack");
                self.run(Command::Get { channel: ChannelKey(0), no_ack });
            }
            _ => self.step_plain(verb, &names, &options),
        }
    }

    fn step_plain(&mut self, verb: &str, names: &[&str], options: &[&str]) {
        match verb {
            "recover" => self.run(Command::Recover { channel: ChannelKey(number(names, 0)) }),
            "lose" => self.run(Command::Release { channel: ChannelKey(number(names, 0)) }),
            "cancel" => self.run(Command::Cancel { consumer: ConsumerId(number(names, 0)) }),
            "credit" => {
                let credit = u32::try_from(number(names, 1)).unwrap();
                self.run(Command::Credit { consumer: ConsumerId(number(names, 0)), credit });
            }
            "limit" => {
                let count = |i| u32::try_from(number(names, i)).unwrap();
                let channel = ChannelKey(number(names, 0));
                self.run(Command::ChannelPrefetch {
                    channel,
                    limit: count(1),
                    elsewhere: count(2),
                });
            }
            "wait" => {
                self.now += number(names, 0);
                self.run(Command::Tick);
            }
            "purge" => self.run(Command::Purge),
            "touch" => self.run(Command::Touch),
            "delete" => self.run(Command::Delete {
                if_unused: options.contains(&"if_unused"),
                if_empty: options.contains(&"if_empty"),
            }),
            other => panic!("no such step: {other}"),
        }
    }

    fn run(&mut self, command: Command<'_>) {
        let mut effects = Vec::new();
        self.machine.apply(command, at(self.now), &mut effects);
        for effect in effects {
            let told = self.tell(effect);
            self.told.extend(told);
        }
    }

    fn tell(&mut self, effect: Effect) -> Option<String> {
        Some(match effect {
            Effect::Consuming { .. } => return None,
            Effect::Deliver { consumer, entry } => {
                self.holders.insert(entry.seq, self.channels[&consumer]);
                format!("c{}<{}", consumer.0, shown(&entry))
            }
            Effect::Got { entry, ready } => {
                self.holders.insert(entry.seq, ChannelKey(0));
                format!("got {} ({ready} more)", shown(&entry))
            }
            Effect::GotNothing => "got nothing".into(),
            Effect::Settled { seq } => format!("-{}", name(seq)),
            Effect::DeadLetter { entry, reason } => {
                format!("{}+{}", name(entry.seq), reason.as_str())
            }
            Effect::Drop { entry, reason } => format!("{}~{}", name(entry.seq), reason.as_str()),
            Effect::CountDelivery { seq, delivery_count, acquired_count } => {
                format!("{}#{delivery_count}/{acquired_count}", name(seq))
            }
            Effect::TimedOut { channel, seq } => format!("{}>late>{}", channel.0, name(seq)),
            Effect::CancelConsumer { consumer, reason } => {
                format!("cancel c{} {reason:?}", consumer.0)
            }
            Effect::Purged { messages } => format!("purged {}", messages.len()),
            Effect::Deleted { reason, ready } => format!("deleted {reason:?} {ready}"),
            Effect::Refused(refusal) => format!("refused {refusal:?}"),
        })
    }
}

fn number(names: &[&str], index: usize) -> u64 {
    names[index].trim_start_matches('c').parse().unwrap()
}

fn at(ms: u64) -> Now {
    Now { monotonic: Monotonic(ms), wall: Wall(1_000_000).after(ms) }
}

fn name(seq: Lsn) -> char {
    char::from(u8::try_from(seq.0).unwrap())
}

fn shown(entry: &Entry) -> String {
    format!("{}{}", name(entry.seq), if entry.redelivered { "!" } else { "" })
}

fn classic() -> Settings {
    Settings { dead_letters: true, ..Settings::classic() }
}

fn quorum() -> Settings {
    Settings { dead_letters: true, ..Settings::quorum() }
}

#[test]
fn messages_come_in_order_and_once() {
    check(
        classic(),
        "pub a b; get; get; get; ack a b",
        "got a (1 more) got b (0 more) got nothing -a -b",
    );
    check(classic(), "pub a; get no_ack; get", "got a (0 more) -a got nothing");
    check(classic(), "consume c1 no_ack; pub a; pub b", "c1<a -a c1<b -b");
}

#[test]
fn a_message_that_becomes_visible_late_takes_its_place() {
    check(
        classic(),
        "pub c; pub a; pub b; get; get; get",
        "got a (2 more) got b (1 more) got c (0 more)",
    );
}

#[test]
fn a_classic_queue_puts_a_returned_message_where_it_was() {
    check(
        classic(),
        "pub a b c d; get; get; get; nack b; nack a; get; get; get",
        "got a (3 more) got b (2 more) got c (1 more) b#0/1 a#0/1 got a! (2 more) got b! (1 more) got d (0 more)",
    );
}

#[test]
fn a_quorum_queue_serves_returned_messages_first_in_the_order_of_their_return() {
    check(
        quorum(),
        "pub a b c; get; get; nack b; nack a; get; get; get",
        "got a (2 more) got b (1 more) b#0/1 a#0/1 got b! (2 more) got a! (1 more) got c (0 more)",
    );
}

#[test]
fn consumers_with_room_take_turns() {
    check(
        classic(),
        "consume c1 prefetch=2; consume c2 prefetch=2; pub a b c d e; ack b; ack a",
        "c1<a c2<b c1<c c2<d -b c2<e -a",
    );
    check(classic(), "pub a b c d; consume c1 prefetch=2; consume c2", "c1<a c1<b c2<c c2<d");
}

// RabbitMQ: consumer priorities
#[test]
fn a_lower_consumer_gets_a_message_only_when_the_higher_ones_are_full() {
    check(
        classic(),
        "consume c1 prefetch=9; consume c2 prefetch=1 priority=5; consume c3 prefetch=1 priority=5; pub a b c; ack b; pub d",
        "c2<a c3<b c1<c -b c3<d",
    );
}

#[test]
fn a_mailbox_without_credit_gets_nothing_until_it_has_room() {
    check(
        classic(),
        "consume c1 no_ack credit=1; pub a b c; credit c1 2",
        "c1<a -a c1<b -b c1<c -c",
    );
}

// research 1.9: RabbitMQ 4.3 no longer has it
#[test]
fn consumers_of_a_channel_share_a_channel_wide_prefetch() {
    check(
        classic(),
        "limit 7 2 0; consume c1 ch=7; consume c2 ch=7; pub a b c d; ack a; limit 7 3 0; limit 7 3 3; ack b c d; limit 7 0 0; pub e",
        "c1<a c2<b -a c1<c c2<d -b -c -d c1<e",
    );
}

#[test]
fn a_lost_channel_returns_everything_it_held() {
    check(
        classic(),
        "pub a b; consume c1; consume c2; lose 1",
        "c1<a c1<b a#1/1 b#1/1 c2<a! c2<b!",
    );
    check(classic(), "pub a b; consume c1; lose 1; get", "c1<a c1<b a#1/1 b#1/1 got a! (1 more)");
}

#[test]
fn what_a_cancelled_consumer_holds_stays_with_its_channel() {
    check(
        classic(),
        "pub a b; consume c1 prefetch=1; cancel c1; nack a; get",
        "c1<a a#0/1 got a! (1 more)",
    );
}

#[test]
fn nobody_settles_what_another_channel_holds() {
    let mut story = Story::new(classic());
    story.step("pub a");
    story.step("consume c1");
    story.run(Command::Settle {
        channel: ChannelKey(2),
        messages: &[Lsn(97)],
        outcome: Outcome::Ack,
    });
    assert_eq!((story.told.join(" "), story.machine.counts().unacked), ("c1<a".into(), 1));
}

#[test]
fn recover_returns_without_counting_a_failure() {
    check(quorum(), "pub a; consume c1; recover 1", "c1<a a#0/1 c1<a!");
}

// research 1.4: since 4.3 a nack is no failure, a reject is
#[test]
fn the_delivery_limit_counts_failures_only() {
    let limited = Settings { delivery_limit: Some(2), ..quorum() };
    check(
        limited.clone(),
        "pub a; get; reject a; get; nack a; get; reject a; get; reject a",
        "got a (0 more) a#1/1 got a! (0 more) a#1/2 got a! (0 more) a#2/3 got a! (0 more) a+delivery_limit",
    );
    let strict = Settings { delivery_limit: Some(0), nack_counts: true, ..limited };
    check(strict, "pub a; get; nack a", "got a (0 more) a+delivery_limit");
}

#[test]
fn a_rejected_message_is_dead_or_dropped() {
    check(classic(), "pub a; get; dead a", "got a (0 more) a+rejected");
    check(Settings::classic(), "pub a; get; dead a", "got a (0 more) a~rejected");
}

#[test]
fn an_expired_message_is_never_delivered_wherever_it_stands() {
    let ttl = Settings { message_ttl: Some(100), ..classic() };
    check(
        ttl.clone(),
        "pub a; wait 99; get; wait 1; nack a; get",
        "got a (0 more) a#0/1 a+expired got nothing",
    );
    check(
        classic(),
        "pub a; pub b ttl=50; pub c; wait 50; get; get",
        "b+expired got a (1 more) got c (0 more)",
    );
    check(ttl, "pub a ttl=500; pub b ttl=10; wait 10; wait 90", "b+expired a+expired");
    check(quorum(), "pub a ttl=50; get; nack a; wait 50", "got a (0 more) a#0/1 a+expired");
}

#[test]
fn a_time_to_live_of_zero_means_now_or_never() {
    let ttl = Settings { message_ttl: Some(0), ..classic() };
    check(ttl.clone(), "pub a; get", "a+expired got nothing");
    check(ttl.clone(), "consume c1 prefetch=1; pub a b", "c1<a b+expired");
    check(ttl, "consume c1; pub a; lose 1", "c1<a a#1/1 a+expired");
}

#[test]
fn deadlines_name_the_moment_something_is_due() {
    let mut story = Story::new(Settings { expires: Some(500), ..classic() });
    story.step("pub a");
    story.step("pub b ttl=70");
    let wall = Some(at(70).wall);
    assert_eq!(story.machine.deadline(), Deadline { wall, monotonic: Some(Monotonic(500)) });
    story.step("consume c1 prefetch=1 timeout=300");
    assert_eq!(story.machine.deadline(), Deadline { wall, monotonic: Some(Monotonic(300)) });
    story.step("wait 70");
    assert_eq!(story.machine.deadline(), Deadline { wall: None, monotonic: Some(Monotonic(300)) });
}

#[test]
fn a_full_queue_drops_its_head() {
    let short = Settings { max_length: Some(2), ..classic() };
    check(short.clone(), "pub a b c", "a+maxlen");
    check(short.clone(), "pub a b; get; pub c; nack a", "got a (1 more) a#0/1 a+maxlen");
    check(Settings { max_length: Some(0), ..short }, "pub a; consume c1; pub b", "a+maxlen c1<b");
    let light = Settings { max_bytes: Some(10), ..classic() };
    check(
        light,
        "pub a bytes=6; pub b bytes=6; pub c bytes=4; pub d bytes=11",
        "a+maxlen b+maxlen c+maxlen d+maxlen",
    );
}

#[test]
fn a_full_queue_may_refuse_publishes_instead() {
    let settings = Settings { max_length: Some(1), overflow: Overflow::RejectPublish, ..classic() };
    let mut story = Story::new(settings.clone());
    assert_eq!(story.machine.accepts(1), Acceptance::Accept);
    story.machine.stage(1);
    assert_eq!(story.machine.accepts(1), Acceptance::Reject, "the first is not yet visible");
    story.step("pub a");
    assert_eq!(story.machine.accepts(1), Acceptance::Reject);
    story.step("consume c1 prefetch=2");
    assert_eq!(story.machine.accepts(1), Acceptance::Accept, "only ready messages count");
    story.machine.stage(1);
    assert_eq!(story.machine.accepts(1), Acceptance::Accept, "the consumer will take the second");
    story.machine.stage(1);
    assert_eq!(story.machine.accepts(1), Acceptance::Reject, "but not the third");
    let letters = Settings {
        overflow: Overflow::RejectPublishDeadLetter,
        max_length: None,
        max_bytes: Some(3),
        ..settings
    };
    assert_eq!(Story::new(letters).machine.accepts(4), Acceptance::RejectAndDeadLetter);
}

#[test]
fn priorities_are_strict_and_clamped() {
    let lanes = Settings { max_priority: 2, ..classic() };
    check(
        lanes,
        "pub a; pub b prio=1; pub c prio=9; pub d prio=2; get; get; nack d; get; get; get",
        "got c (3 more) got d (2 more) d#0/1 got d! (2 more) got b (1 more) got a (0 more)",
    );
    check(
        quorum(),
        "pub a; pub b prio=3; pub c prio=31; get; get; get",
        "got c (2 more) got a (1 more) got b (0 more)",
    );
    check(classic(), "pub a; pub b prio=200; get", "got a (1 more)");
}

#[test]
fn one_consumer_is_active_and_the_next_in_line_follows() {
    let single = Settings { single_active: true, ..classic() };
    check(
        single.clone(),
        "consume c1 prefetch=1; consume c2; pub a b c; get; cancel c1",
        "c1<a refused SingleActive c2<b c2<c",
    );
    check(single, "consume c1; consume c2 priority=9; pub a; lose 1", "c1<a a#1/1 c2<a!");
}

#[test]
fn in_a_quorum_queue_a_more_important_consumer_takes_over_when_the_active_one_has_settled() {
    let single = Settings { single_active: true, ..quorum() };
    check(
        single,
        "consume c1; pub a; consume c2 priority=5; pub b; ack a; consume c3 priority=1; cancel c2",
        "c1<a -a c2<b",
    );
}

#[test]
fn an_exclusive_consumer_is_alone() {
    check(classic(), "consume c1 exclusive; consume c2; pub a", "refused ExclusiveUse c1<a");
    check(classic(), "consume c1; consume c2 exclusive", "refused ExclusiveUse");
    check(
        Settings { single_active: true, ..classic() },
        "consume c1 exclusive",
        "refused ExclusiveUse",
    );
}

#[test]
fn a_consumer_that_holds_a_message_too_long_loses_it_and_is_cancelled() {
    let strict = Settings { consumer_timeout: Some(1000), ..quorum() };
    check(
        strict.clone(),
        "pub a b; consume c1 prefetch=1; consume c2 prefetch=1; wait 500; ack b; wait 500",
        "c1<a c2<b -b 1>late>a cancel c1 Timeout a#0/1 c2<a!",
    );
    check(
        strict,
        "pub a; consume c1 timeout=2000; wait 1999; wait 1; ack a; get",
        "c1<a 1>late>a cancel c1 Timeout a#0/1 got a! (0 more)",
    );
}

#[test]
fn retries_wait_longer_each_time_and_at_most_the_maximum() {
    let retry = Some(Retry { on: RetryOn::Failed, min: 100, max: 150 });
    check(
        Settings { retry, ..quorum() },
        "pub a; consume c1; reject a; wait 99; wait 1; reject a; wait 149; wait 1; nack a",
        "c1<a a#1/1 c1<a! a#2/2 c1<a! a#2/3 c1<a!",
    );
    let retry = Some(Retry { on: RetryOn::Returned, min: 100, max: 1000 });
    check(
        Settings { retry, ..quorum() },
        "pub a ttl=50; get; nack a; wait 50",
        "got a (0 more) a#0/1 a+expired",
    );
}

#[test]
fn purge_takes_what_is_ready() {
    check(
        classic(),
        "pub a b c; get; purge; nack a; get",
        "got a (2 more) purged 2 a#0/1 got a! (0 more)",
    );
}

#[test]
fn a_queue_is_deleted_when_asked_or_when_it_is_no_longer_used() {
    check(
        classic(),
        "pub a b; delete if_empty; consume c1 prefetch=1; delete if_unused; delete; get",
        "refused NotEmpty c1<a refused InUse cancel c1 Deleted deleted Asked 1 refused Gone",
    );
    let auto = Settings { auto_delete: true, ..classic() };
    check(
        auto.clone(),
        "pub a; wait 9; consume c1; consume c2; cancel c1; cancel c2",
        "c1<a deleted Unused 0",
    );
    check(auto, "consume c1; pub a; lose 1", "c1<a a#1/1 deleted Unused 1");
    let brief = Settings { expires: Some(100), ..classic() };
    check(
        brief,
        "pub a; wait 99; get; wait 99; touch; consume c1; wait 500; cancel c1; wait 99; wait 1",
        "got a (0 more) deleted Expired 0",
    );
}

#[test]
fn a_great_dying_is_spread_over_many_commands() {
    let mut story = Story::new(classic());
    let entry = |n| Entry { expires_at: at(10).wall, ..Entry::new(Lsn(n), 1) };
    let entries: Vec<Entry> = (0..5000).map(entry).collect();
    story.machine.apply(Command::Visible { entries: &entries }, at(0), &mut Vec::new());
    let (mut rounds, mut dead) = (0, 0);
    while story.machine.deadline() != Deadline::default() {
        let mut effects = Vec::new();
        story.machine.apply(Command::Tick, at(10), &mut effects);
        (rounds, dead) = (rounds + 1, dead + effects.len());
        assert!(effects.len() <= 1024);
    }
    assert_eq!((rounds, dead), (5, 5000));
}
