//! Protocol Buffers: bodies in binary, behind the index of their message in its file.

use std::sync::Arc;

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::Value;

use super::shape::{Shape, join};
use crate::error::Cause;

#[derive(Debug)]
pub(super) struct Protobuf {
    pool: DescriptorPool,
    /// The first message of the file.
    message: MessageDescriptor,
}

/// The files of a schema, by name.
struct Texts(Vec<(String, Arc<str>)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

impl Protobuf {
    pub(super) fn parse(text: &str, others: &[(String, Arc<str>)]) -> Result<Self, Cause> {
        let mut files = others.to_vec();
        files.push((MAIN.to_owned(), text.into()));
        let mut resolver = ChainFileResolver::new();
        resolver.add(Texts(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).open_file(MAIN)?;
        let pool = compiler.descriptor_pool();
        let file = pool.get_file_by_name(MAIN).ok_or("the file was not compiled")?;
        let message = file.messages().next().ok_or("there is no message in the file")?;
        Ok(Self { pool, message })
    }

    pub(super) fn write(&self, value: &Value, into: &mut Vec<u8>) -> Result<(), Cause> {
        let message = DynamicMessage::deserialize(self.message.clone(), value)?;
        into.push(0); // the first message: the list [0] is written as one 0
        into.extend(message.encode_to_vec());
        Ok(())
    }

    pub(super) fn read(&self, body: &[u8]) -> Result<Value, Cause> {
        let (message, rest) = self.indexed(body)?;
        let message = DynamicMessage::decode(message, rest)?;
        let options = SerializeOptions::new()
            .stringify_64_bit_integers(false)
            .use_proto_field_name(true)
            .skip_default_fields(false);
        Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
    }

    /// The message that the indexes at the head of a body lead to: one of the file, then one inside it, and so on.
    fn indexed<'a>(&self, body: &'a [u8]) -> Result<(MessageDescriptor, &'a [u8]), Cause> {
        let (count, mut rest) = zigzag(body)?;
        if count == 0 {
            return Ok((self.message.clone(), rest));
        }
        let file = self.pool.get_file_by_name(MAIN).ok_or("the file was not compiled")?;
        let mut at: Option<MessageDescriptor> = None;
        for _ in 0..usize::try_from(count)
            .ok()
            .filter(|count| *count <= INDEXES_MAX)
            .ok_or("too many indexes")?
        {
            let (index, behind) = zigzag(rest)?;
            rest = behind;
            let index = usize::try_from(index)?;
            let next = match at {
                Some(message) => message.child_messages().nth(index),
                None => file.messages().nth(index),
            };
            at = Some(next.ok_or_else(|| format!("there is no message {index} in the schema"))?);
        }
        Ok((at.ok_or("no index")?, rest))
    }

    pub(super) fn shape(&self) -> Shape {
        let mut shape = Shape::default();
        walk(&self.message, "", 0, &mut shape);
        shape
    }
}

/// Fields are what their numbers are: a new name is no change.
fn walk(message: &MessageDescriptor, path: &str, depth: usize, shape: &mut Shape) {
    for field in message.fields() {
        let number = join(path, &format!("#{}", field.number()));
        let kind = match field.kind() {
            Kind::Message(inner) => {
                if depth < DEPTH_MAX {
                    walk(&inner, &number, depth + 1, shape);
                }
                "message".to_owned()
            }
            Kind::Enum(_) => "enum".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        };
        let kind = if field.is_list() { format!("repeated {kind}") } else { kind };
        shape.labelled(number, field.name(), vec![kind]);
    }
}

fn zigzag(body: &[u8]) -> Result<(i64, &[u8]), Cause> {
    let mut value = 0_u64;
    for (at, byte) in body.iter().enumerate().take(VARINT_BYTES_MAX) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let half = i64::try_from(value >> 1)?;
            let rest = body.get(at + 1..).unwrap_or_default();
            return Ok((if value & 1 == 0 { half } else { !half }, rest));
        }
    }
    Err("the message index has no end".into())
}

/// Nobody imports it.
const MAIN: &str = "ottla-contract.proto";
const INDEXES_MAX: usize = 32;
const VARINT_BYTES_MAX: usize = 9;
const DEPTH_MAX: usize = 24;
