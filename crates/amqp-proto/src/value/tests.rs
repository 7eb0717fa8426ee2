use proptest::prelude::*;

use super::*;
use crate::sample::{Seed, table};

fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), value].concat()
}

fn long(letter: u8, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap();
    [&[letter], &len.to_be_bytes()[..], content].concat()
}

fn check(bytes: impl Into<Bytes>) -> Result<RawTable, Malformed> {
    RawTable::new(bytes.into())
}

/// A table in a table in a table: `depth` of them, the outermost counted.
fn nested(letter: u8, depth: usize) -> Vec<u8> {
    let inner = (1..depth).fold(Vec::new(), |inner, _| {
        if letter == b'F' { entry("", &long(b'F', &inner)) } else { long(b'A', &inner) }
    });
    if letter == b'F' { inner } else { entry("", &inner) }
}

proptest! {
    #[test]
    fn a_table_survives_the_wire_in_order_and_with_its_types(seed: u64) {
        let table = table(&mut Seed::new(seed), 4);
        let raw = table.encode().unwrap();
        prop_assert_eq!(raw.view().to_table(), table);
    }

    #[test]
    fn no_bytes_make_the_check_panic_and_what_it_passes_can_be_read(bytes: Vec<u8>) {
        if let Ok(raw) = check(bytes) {
            let fields = raw.view().to_table().0.len();
            prop_assert_eq!(fields, raw.view().iter().count());
        }
    }

    #[test]
    fn a_table_cut_anywhere_but_between_entries_is_refused(seed: u64, cut: prop::sample::Index) {
        let table = table(&mut Seed::new(seed), 2);
        let bytes = table.encode().unwrap().as_bytes().clone();
        prop_assume!(!bytes.is_empty());
        let cut = bytes.slice(..cut.index(bytes.len()));
        if let Ok(raw) = check(cut) {
            let read = raw.view().to_table();
            prop_assert_eq!(&read.0[..], &table.0[..read.0.len()]);
        }
    }
}

// CVE-2026-69220 class: nesting must not cost stack.
#[test]
fn tables_nested_as_deep_as_a_frame_can_hold_are_refused_without_a_deep_stack() {
    let mut bytes = Vec::with_capacity(131_072);
    for depth in (1..21_800u32).rev() {
        bytes.extend_from_slice(b"\x00F");
        bytes.extend_from_slice(&((depth - 1) * 6).to_be_bytes());
    }
    assert!(bytes.len() > 128_000);
    assert_eq!(check(bytes), Err(Malformed::Depth(32)));
}

#[test]
fn thirty_two_levels_pass_and_thirty_three_do_not() {
    for letter in [b'F', b'A'] {
        assert!(check(nested(letter, 32)).is_ok());
        assert_eq!(check(nested(letter, 33)), Err(Malformed::Depth(32)));
    }
}

// CVE-2026-66079 class: elements without width still count.
#[test]
fn an_array_of_voids_is_bounded_by_its_count() {
    let array = |count| entry("a", &long(b'A', &vec![b'V'; count]));
    assert!(check(array(4095)).is_ok());
    assert_eq!(check(array(4096)), Err(Malformed::Fields(4096)));
    let empty_tables = long(b'A', &long(b'F', &[]).repeat(4096));
    assert_eq!(check(entry("a", &empty_tables)), Err(Malformed::Fields(4096)));
}

#[test]
fn a_type_rabbitmq_does_not_know_is_refused_and_not_skipped() {
    for letter in [b'Z', b'U', 0, b'S' ^ 0x80] {
        assert_eq!(check(entry("k", &[letter, 0, 0, 0, 0])), Err(Malformed::FieldType(letter)));
    }
}

#[test]
fn lengths_that_reach_out_of_their_container_are_refused() {
    assert_eq!(check(&b"\x05ab"[..]), Err(Malformed::Truncated));
    assert_eq!(check(entry("k", b"S\xFF\xFF\xFF\xFFabc")), Err(Malformed::Truncated));
    let outer = entry("o", &long(b'F', &entry("i", b"S\x00\x00\x00\x09x")));
    assert_eq!(check(outer), Err(Malformed::Truncated));
    assert_eq!(check(entry("k", b"I\x00")), Err(Malformed::Truncated));
}

#[test]
fn of_duplicate_names_the_last_wins_and_all_are_kept() {
    let raw = check([entry("k", b"B\x01"), entry("k", b"B\x02")].concat()).unwrap();
    assert_eq!(raw.get("k").and_then(|value| value.as_integer()), Some(2));
    assert_eq!(raw.view().iter().count(), 2);
    let mut table = raw.view().to_table();
    assert_eq!(table.remove("k"), Some(Value::U8(2)));
    assert!(table.0.is_empty());
}

#[test]
fn integers_are_equal_by_value_and_both_letters_of_the_long_are_signed() {
    let raw = check(
        [
            entry("l", b"l\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE"),
            entry("L", b"L\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE"),
            entry("s", b"s\xFF\xFE"),
        ]
        .concat(),
    )
    .unwrap();
    for name in ["l", "L", "s"] {
        assert_eq!(raw.get(name).unwrap().as_integer(), Some(-2), "{name}");
    }
    assert_eq!(raw.get("s").unwrap().type_name(), "short");
}
