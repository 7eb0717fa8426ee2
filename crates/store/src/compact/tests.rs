use super::*;
use crate::batch::{Marker, control_marker};
use crate::codec::Codec;
use crate::mem_disk::MemDisk;

/// Batches of `key=value` (`key=` is a tombstone) as one segment each, compacted.
struct Topic {
    disk: MemDisk,
    inputs: Vec<CompactInput>,
    next: i64,
}

const NONE_ABORTED: fn(&BatchHeader) -> bool = |_| false;
const NO_PRODUCER: fn(i64) -> Option<Offset> = |_| None;

fn rules() -> CompactRules<'static> {
    CompactRules {
        now_ms: 1000,
        delete_retention_ms: 100,
        aborted: &NONE_ABORTED,
        last_of_producer: &NO_PRODUCER,
        from_start: true,
        map_bytes_max: 1 << 20,
        between: &|| true,
    }
}

fn batch_of(builder: BatchBuilder, text: &str) -> BatchBuilder {
    text.split(' ').fold(builder, |mut builder, pair| {
        let (key, value) = pair.split_once('=').unwrap();
        builder.push(&RecordDraft {
            timestamp_ms: 50,
            key: Some(key.as_bytes()),
            value: (!value.is_empty()).then_some(value.as_bytes()),
            headers: &[(b"h", Some(b"x"))],
        });
        builder
    })
}

impl Topic {
    fn new() -> Self {
        Self { disk: MemDisk::default(), inputs: Vec::new(), next: 0 }
    }

    fn segment(mut self, builders: Vec<crate::batch::PreparedBatch>) -> Self {
        let number = self.inputs.len() as u64;
        let path = format!("in-{number}");
        let mut writer =
            SegmentWriter::create(&self.disk, &path, number, Offset(self.next)).unwrap();
        for batch in builders {
            writer.push(&batch.to_bytes(Offset(self.next)), None).unwrap();
            self.next = writer.meta().next.0;
        }
        self.inputs.push(CompactInput { path, meta: writer.finish().unwrap() });
        self
    }

    fn texts(self, codec: Codec, texts: &[&str]) -> Self {
        let batch = |text: &&str| batch_of(BatchBuilder::new(codec), text).build();
        self.segment(texts.iter().map(batch).collect())
    }

    fn compact(&self, path: &str, rules: &CompactRules<'_>) -> Compacted {
        compact(&self.disk, &self.inputs, path, 99, rules).unwrap()
    }

    /// Compacts what came out again.
    fn again(self, out: &Compacted, path: &str) -> Self {
        let inputs = vec![CompactInput { path: path.to_owned(), meta: out.meta.clone() }];
        Self { inputs, ..self }
    }

    /// `[base..last: offset:key=value …]` for each batch.
    fn show(&self, path: &str, out: &Compacted) -> String {
        let mut scan = Scan::open(&self.disk, path, &out.meta).unwrap();
        let mut shown = Vec::new();
        while let Some(found) = scan.next_batch().unwrap() {
            let text = |field: Option<&[u8]>| {
                field.map_or(String::new(), |field| String::from_utf8_lossy(field).into_owned())
            };
            let records: Vec<_> = Records::open(&found.batch)
                .unwrap()
                .iter()
                .map(|record| {
                    let record = record.unwrap();
                    if found.header.is_control() {
                        return format!("{}:marker", record.offset);
                    }
                    assert_eq!((record.timestamp_ms, record.headers.len()), (50, 1));
                    format!("{}:{}={}", record.offset, text(record.key), text(record.value))
                })
                .collect();
            let (base, last) = (found.header.base_offset, found.header.last_offset());
            shown.push(format!("[{base}..{last}: {}]", records.join(" ")));
        }
        shown.join(" ")
    }
}

#[test]
fn the_last_record_of_each_key_stays_where_it_was() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let topic = Topic::new()
            .texts(codec, &["a=1 b=1 c=1", "a=2 a=3", "b=2"])
            .texts(codec, &["d=1", "a=4 e=1"]);
        let out = topic.compact("out", &rules());
        assert_eq!(
            topic.show("out", &out),
            "[0..2: 2:c=1] [5..5: 5:b=2] [6..6: 6:d=1] [7..8: 7:a=4 8:e=1]"
        );
        assert_eq!((out.records_before, out.records_after), (9, 5));
        assert_eq!((out.meta.base, out.meta.next), (Offset(0), Offset(9)));
        let whole = topic.disk.bytes("in-1");
        assert!(topic.disk.bytes("out").ends_with(&whole), "untouched batches are verbatim");
    }
}

#[test]
fn a_small_map_takes_more_passes_and_finds_the_same() {
    let texts: Vec<String> = (0..200).map(|i| format!("k{}={i} k{}={i}", i % 40, i % 17)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let topic = Topic::new().texts(Codec::None, &texts);
    let large = topic.compact("large", &rules());
    let small = topic.compact("small", &CompactRules { map_bytes_max: 48 * 5, ..rules() });
    assert_eq!(topic.disk.bytes("large"), topic.disk.bytes("small"));
    assert_eq!((large.records_after, large.index), (40, small.index));
}

#[test]
fn a_tombstone_stays_until_its_horizon() {
    let topic = Topic::new().texts(Codec::Gzip, &["a=1 b=1", "a= c=1"]);
    let first = topic.compact("first", &rules());
    let shown = "[0..1: 1:b=1] [2..3: 2:a= 3:c=1]";
    assert_eq!(topic.show("first", &first), shown);
    let topic = topic.again(&first, "first");
    let early = topic.compact("early", &CompactRules { now_ms: 1099, ..rules() });
    assert_eq!(topic.show("early", &early), shown);
    assert_eq!(topic.disk.bytes("early"), topic.disk.bytes("first"), "the horizon stays");
    let late = topic.compact("late", &CompactRules { now_ms: 1100, ..rules() });
    assert_eq!(topic.show("late", &late), "[0..1: 1:b=1] [2..3: 3:c=1]");
}

#[test]
fn aborted_data_goes_at_once_and_its_marker_after_the_horizon() {
    let data = |producer, text| {
        batch_of(BatchBuilder::new(Codec::None).producer(producer, 0, 0).transactional(), text)
            .build()
    };
    let topic = Topic::new().texts(Codec::None, &["a=1"]).segment(vec![
        data(7, "a=2 b=2"),
        control_marker(7, 0, Marker::Abort, 0, 60),
        data(8, "c=1"),
        control_marker(8, 0, Marker::Commit, 0, 60),
    ]);
    let aborted = |header: &BatchHeader| header.producer_id == 7;
    let rules = CompactRules { aborted: &aborted, ..rules() };
    let first = topic.compact("first", &rules);
    let shown = "[0..0: 0:a=1] [3..3: 3:marker] [4..4: 4:c=1] [5..5: 5:marker]";
    assert_eq!(topic.show("first", &first), shown);
    let topic = topic.again(&first, "first");
    let late = CompactRules { now_ms: 2000, ..rules };
    let out = topic.compact("late", &late);
    assert_eq!(topic.show("late", &out), "[0..0: 0:a=1] [4..4: 4:c=1] [5..5: 5:marker]");
    let middle = topic.compact("middle", &CompactRules { from_start: false, ..late });
    assert_eq!(topic.show("middle", &middle), shown, "its data may stand before the inputs");
}

#[test]
fn the_newest_batch_of_a_producer_stays_empty() {
    let sent = |sequence, text| {
        batch_of(BatchBuilder::new(Codec::Lz4).producer(7, 3, sequence), text).build()
    };
    let topic = Topic::new()
        .segment(vec![sent(0, "a=1"), sent(1, "a=2 b=1")])
        .texts(Codec::None, &["a=3 b=2"]);
    let newest = |producer| (producer == 7).then_some(Offset(2));
    let out = topic.compact("out", &CompactRules { last_of_producer: &newest, ..rules() });
    assert_eq!(topic.show("out", &out), "[1..2: ] [3..4: 3:a=3 4:b=2]");
    let mut scan = Scan::open(&topic.disk, "out", &out.meta).unwrap();
    let header = scan.next_batch().unwrap().unwrap().header;
    assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
    assert_eq!((header.base_sequence, header.last_sequence(), header.count), (1, 2, 0));
    let topic = topic.again(&out, "out");
    let gone = topic.compact("gone", &rules());
    assert_eq!(topic.show("gone", &gone), "[3..4: 3:a=3 4:b=2]", "once its state is forgotten");
}
