//! Arguments drawn from a seed, for the tests that must see every method.

use amq_protocol::frame::{WriteContext, gen_frame, parse_frame};
use bytes::Bytes;

use crate::ids::{DeliveryTag, ShortStr};
use crate::methods::Reserved;
use crate::value::{Array, RawTable, Table, Value};

/// A stream of numbers from one number (xorshift), the same on every run.
#[derive(Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next().to_be_bytes()[3]).collect()
    }

    fn text(&mut self, most: u64) -> String {
        (0..self.below(most + 1))
            .map(|_| char::from(b' ' + self.next().to_be_bytes()[3] % 95))
            .collect()
    }
}

/// Something drawn from a seed.
pub(crate) trait Sample {
    fn sample(seed: &mut Seed) -> Self;
}

macro_rules! samples {
    ($($type:ty = |$seed:ident| $sample:expr;)*) => { $(
        impl Sample for $type {
            fn sample($seed: &mut Seed) -> Self {
                $sample
            }
        }
    )* };
}
samples! {
    bool = |seed| seed.below(2) == 1;
    u8 = |seed| seed.next().to_be_bytes()[0];
    u16 = |seed| u16::from_be_bytes(*seed.next().to_be_bytes().first_chunk().unwrap());
    u32 = |seed| u32::from_be_bytes(*seed.next().to_be_bytes().first_chunk().unwrap());
    u64 = |seed| seed.next();
    DeliveryTag = |seed| Self(seed.next());
    ShortStr = |seed| Self::try_from(seed.text(255)).unwrap();
    Bytes = |seed| seed.bytes(600).into();
    RawTable = |seed| table(seed, 3).encode().unwrap();
}

impl<T> Sample for Reserved<T>
where
    Self: Default,
{
    fn sample(_: &mut Seed) -> Self {
        Self::default()
    }
}

/// A table with ascending, distinct names, so that an oracle that sorts keeps it as it is.
pub(crate) fn table(seed: &mut Seed, depth: u64) -> Table {
    let count = seed.below(5);
    Table(
        (0..count)
            .map(|n| {
                (ShortStr::try_from(format!("{n}{}", seed.text(9))).unwrap(), value(seed, depth))
            })
            .collect(),
    )
}

/// A value of any type, tables and arrays to `depth`.
pub(crate) fn value(seed: &mut Seed, depth: u64) -> Value {
    match seed.below(if depth == 0 { 15 } else { 17 }) {
        0 => Value::Bool(Sample::sample(seed)),
        1 => Value::I8(u8::sample(seed).cast_signed()),
        2 => Value::U8(Sample::sample(seed)),
        3 => Value::I16(u16::sample(seed).cast_signed()),
        4 => Value::U16(Sample::sample(seed)),
        5 => Value::I32(u32::sample(seed).cast_signed()),
        6 => Value::U32(Sample::sample(seed)),
        7 => Value::I64(seed.next().cast_signed()),
        8 => Value::F32(1.5),
        9 => Value::F64(-0.25),
        10 => Value::Decimal(Sample::sample(seed), Sample::sample(seed)),
        11 => Value::Str(seed.bytes(40).into()),
        12 => Value::Binary(seed.bytes(40).into()),
        13 => Value::Timestamp(seed.next()),
        14 => Value::Void,
        15 => Value::Array(Array((0..seed.below(4)).map(|_| value(seed, depth - 1)).collect())),
        _ => Value::Table(table(seed, depth - 1)),
    }
}

/// What another implementation makes of the frame in `bytes`, written by it again.
pub(crate) fn through_amq_protocol(bytes: &[u8]) -> Vec<u8> {
    let (rest, frame) = parse_frame(bytes).expect("the oracle reads what we write");
    assert!(rest.is_empty(), "the oracle reads all of it");
    let written = gen_frame(&frame)(WriteContext::from(Vec::new())).expect("the oracle writes it");
    written.into_inner().0
}
