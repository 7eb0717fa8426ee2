//! Bodies of each language, without a registry. Bytes are written down, as other people's clients write them.

use serde_json::json;

use super::*;

fn codec(schema: &Schema) -> Codec {
    Codec::of(schema, &[]).unwrap()
}

fn written(codec: &Codec, value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    codec.write(value, &mut body).unwrap();
    body
}

const PAID: &str = r#"{"type": "record", "name": "Paid", "namespace": "shop", "fields": [
    {"name": "order", "type": "string"}, {"name": "cents", "type": "long"},
    {"name": "note", "type": ["null", "string"], "default": null}]}"#;

#[test]
fn an_avro_body_is_what_the_specification_says_and_comes_back() {
    let paid = codec(&Schema::avro(PAID));
    let value = json!({"order": "o-1", "cents": 150, "note": "hi"});
    let body = written(&paid, &value);
    assert_eq!(body, b"\x06o-1\xac\x02\x02\x04hi"); // length 3, zigzag 150, branch 1, length 2
    assert_eq!(paid.read(&body, None).unwrap(), value);
}

#[test]
fn avro_reads_an_older_version_with_todays_defaults() {
    let newer =
        PAID.replace("]}", r#", {"name": "currency", "type": "string", "default": "EUR"}]}"#);
    let (old, new) = (codec(&Schema::avro(PAID)), codec(&Schema::avro(newer)));
    let body = written(&old, &json!({"order": "o-1", "cents": 1, "note": null}));
    let read = old.read(&body, Some(&new)).unwrap();
    assert_eq!(read, json!({"order": "o-1", "cents": 1, "note": null, "currency": "EUR"}));
}

#[test]
fn a_value_that_is_none_of_its_schema_is_not_written() {
    let (avro, json_schema) = (
        codec(&Schema::avro(PAID)),
        codec(&Schema::json(
            r#"{"type": "object", "properties": {"cents": {"type": "integer"}}, "required": ["cents"]}"#,
        )),
    );
    assert!(avro.write(&json!({"order": "o-1", "cents": "many"}), &mut Vec::new()).is_err());
    let error =
        json_schema.write(&json!({"cents": "many"}), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.starts_with("/cents: "), "{error}");
    assert_eq!(written(&json_schema, &json!({"cents": 5})), br#"{"cents":5}"#);
}

const PROTO: &str = r#"syntax = "proto3"; package shop;
    import "google/protobuf/timestamp.proto";
    message Paid { string order = 1; int64 cents = 2; message Part { string item = 1; } repeated Part parts = 3; }
    message Other { int32 n = 1; }"#;

#[test]
fn a_protobuf_body_has_the_index_of_its_message_in_front() {
    let paid = codec(&Schema::protobuf(PROTO));
    let value = json!({"order": "o-1", "cents": 150, "parts": [{"item": "cup"}]});
    let body = written(&paid, &value);
    assert_eq!(body, b"\x00\x0a\x03o-1\x10\x96\x01\x1a\x05\x0a\x03cup");
    assert_eq!(paid.read(&body, None).unwrap(), value);
}

#[test]
fn protobuf_indexes_lead_to_any_message_of_the_file() {
    let paid = codec(&Schema::protobuf(PROTO));
    assert_eq!(paid.read(b"\x02\x02\x08\x07", None).unwrap(), json!({"n": 7})); // [1]: Other
    assert_eq!(paid.read(b"\x04\x00\x00\x0a\x03cup", None).unwrap(), json!({"item": "cup"})); // [0, 0]: Paid.Part
    for (wrong, why) in [
        (&b"\x02\x08"[..], "no message 4"),
        (b"", "no end"),
        (b"\xff\xff", "no end"),
        (b"\x80\x10", "too many"),
    ] {
        let error = paid.read(wrong, None).unwrap_err().to_string();
        assert!(error.contains(why), "{wrong:?}: {error}");
    }
}

#[test]
fn any_bytes_are_read_or_refused() {
    let codecs = [Schema::avro(PAID), Schema::protobuf(PROTO), Schema::json("{}")]
        .map(|schema| codec(&schema));
    let mut seed = 7_u32;
    for length in 0..2_000_usize {
        let body: Vec<u8> = (0..length % 40)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed.to_be_bytes()[0]
            })
            .collect();
        for codec in &codecs {
            drop(codec.read(&body, None));
        }
    }
}

#[test]
fn shapes_name_the_field_that_changed() {
    let cases = [
        (Schema::avro(PAID), Schema::avro(PAID.replace("long", "string")), "cents"),
        (
            Schema::json(r#"{"properties": {"cents": {"type": "integer"}}}"#),
            Schema::json(r#"{"properties": {"cents": {"type": "string"}}}"#),
            "cents",
        ),
        (
            Schema::protobuf(PROTO),
            Schema::protobuf(PROTO.replace("int64 cents", "string cents")),
            "cents",
        ),
        (
            Schema::protobuf(PROTO),
            Schema::protobuf(PROTO.replace("string item", "int64 item")),
            "item",
        ),
    ];
    for (old, new, field) in cases {
        let troubles = codec(&new).shape().cannot_read(&codec(&old).shape());
        assert!(
            matches!(&*troubles, [shape::Trouble::Kind { field: found, .. }] if found == field),
            "{field}: {troubles:?}"
        );
        assert_eq!(codec(&old).shape().cannot_read(&codec(&old).shape()), []);
    }
    let renamed = codec(&Schema::protobuf(PROTO.replace("cents", "amount"))).shape();
    assert_eq!(
        renamed.cannot_read(&codec(&Schema::protobuf(PROTO)).shape()),
        [],
        "a name is no part of a Protobuf body"
    );
}

#[test]
fn bodies_without_the_magic_byte_have_no_id() {
    assert_eq!(split(b"\x00\x00\x00\x01\x02rest"), Some((258, &b"rest"[..])));
    assert_eq!(split(b"{\"a\":1}"), None);
    assert_eq!(split(b"\x00\x00\x00"), None);
}
