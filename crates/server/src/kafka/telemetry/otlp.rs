//! The metrics of a push: OpenTelemetry's protobuf (`MetricsData`), as far as numbers go. Foreign
//! bytes: every length is judged, the number of samples is bounded.

/// One number that a client told.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// As `org.apache.kafka.producer.record.send.rate`.
    pub name: String,
    /// As `topic` = `orders`.
    pub labels: Vec<(String, String)>,
    /// The number.
    pub value: f64,
}

/// Every number of `MetricsData`, at most [`SAMPLES_MAX`]; `None` if the bytes are no protobuf.
/// Histograms and summaries are passed over.
pub(super) fn samples(bytes: &[u8]) -> Option<Vec<Sample>> {
    let mut found = Vec::new();
    for resource in messages(bytes, RESOURCE_METRICS)? {
        for scope in messages(resource, SCOPE_METRICS)? {
            for metric in messages(scope, METRIC)? {
                read_metric(metric, &mut found)?;
            }
        }
    }
    Some(found)
}

fn read_metric(metric: &[u8], found: &mut Vec<Sample>) -> Option<()> {
    let name = shortened(text(metric, NAME)??);
    for kind in [GAUGE, SUM] {
        for data in messages(metric, kind)? {
            for point in messages(data, DATA_POINT)? {
                let Some(value) = value(point)? else { continue };
                if found.len() < SAMPLES_MAX {
                    found.push(Sample { name: name.clone(), labels: labels(point)?, value });
                }
            }
        }
    }
    Some(())
}

/// The number of a data point: a double or an integer.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "a shown number, to 53 bits"
)]
fn value(point: &[u8]) -> Option<Option<f64>> {
    let mut found = None;
    for (number, field) in fields(point)? {
        match (number, field) {
            (AS_DOUBLE, Field::Fixed64(bits)) => found = Some(f64::from_bits(bits)),
            (AS_INT, Field::Fixed64(bits)) => found = Some(bits.cast_signed() as f64),
            _ => {}
        }
    }
    Some(found)
}

fn labels(point: &[u8]) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    for attribute in messages(point, ATTRIBUTES)?.into_iter().take(LABELS_MAX) {
        let name = text(attribute, KEY)?.unwrap_or_default();
        let values = messages(attribute, VALUE)?;
        let value = match values.first() {
            Some(any) => text(any, STRING_VALUE)?.unwrap_or_default(),
            None => "",
        };
        found.push((shortened(name), shortened(value)));
    }
    Some(found)
}

/// The text of a field; inner `None` if there is none or it is no UTF-8.
fn text(message: &[u8], number: u64) -> Option<Option<&str>> {
    let found = messages(message, number)?;
    Some(found.first().and_then(|bytes| std::str::from_utf8(bytes).ok()))
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// One field of a message.
enum Field<'a> {
    Varint,
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields with this number that are messages, strings or bytes.
fn messages(bytes: &[u8], wanted: u64) -> Option<Vec<&[u8]>> {
    let fields = fields(bytes)?.into_iter();
    let chosen = fields.filter_map(|(number, field)| match field {
        Field::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    });
    Some(chosen.collect())
}

fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                Field::Varint
            }
            1 => {
                let (fixed, rest) = bytes.split_first_chunk::<8>()?;
                bytes = rest;
                Field::Fixed64(u64::from_le_bytes(*fixed))
            }
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                Field::Bytes(inner)
            }
            5 => {
                (_, bytes) = bytes.split_first_chunk::<4>()?;
                Field::Fixed32
            }
            _ => return None,
        };
        found.push((tag >> 3, field));
    }
    Some(found)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Numbers kept of one push.
pub(super) const SAMPLES_MAX: usize = 500;
/// Labels kept of one number.
const LABELS_MAX: usize = 8;
/// Characters kept of a name or label.
const TEXT_CHARS_MAX: usize = 200;

// opentelemetry/proto/metrics/v1/metrics.proto and common/v1/common.proto, by field number
const RESOURCE_METRICS: u64 = 1;
const SCOPE_METRICS: u64 = 2;
const METRIC: u64 = 2;
const NAME: u64 = 1;
const GAUGE: u64 = 5;
const SUM: u64 = 7;
const DATA_POINT: u64 = 1;
const AS_DOUBLE: u64 = 4;
const AS_INT: u64 = 6;
const ATTRIBUTES: u64 = 7;
const KEY: u64 = 1;
const VALUE: u64 = 2;
const STRING_VALUE: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(inner.len()).unwrap()];
        bytes.extend_from_slice(inner);
        bytes
    }

    fn gauge(value: f64) -> Vec<u8> {
        let label = [message(1, b"topic"), message(2, &message(1, b"orders"))].concat();
        let mut point = message(7, &label);
        point.push(4 << 3 | 1);
        point.extend_from_slice(&value.to_le_bytes());
        let metric = [message(1, b"rate"), message(5, &message(1, &point))].concat();
        message(1, &message(2, &message(2, &metric)))
    }

    #[test]
    fn a_gauge_is_read_with_its_labels() {
        let labels = vec![("topic".to_owned(), "orders".to_owned())];
        let expected = Sample { name: "rate".to_owned(), labels, value: 2.5 };
        assert_eq!(samples(&gauge(2.5)), Some(vec![expected]));
        assert_eq!(samples(b""), Some(vec![]));
    }

    #[test]
    fn what_is_cut_off_or_no_protobuf_is_refused() {
        let whole = gauge(2.5);
        for end in 1..whole.len() {
            assert_eq!(samples(&whole[..end]), None, "{end}");
        }
        assert_eq!(samples(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), None);
    }

    #[test]
    fn no_push_makes_the_broker_keep_more_than_its_bound() {
        let many: Vec<u8> = (0..SAMPLES_MAX + 10).flat_map(|_| gauge(1.0)).collect();
        assert_eq!(samples(&many).unwrap().len(), SAMPLES_MAX);
    }
}
