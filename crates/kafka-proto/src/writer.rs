//! Encoding: the primitive types of the Kafka protocol. Records are spliced into the answer, not copied.

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::ApiVersion;
use crate::error_code::ErrorCode;
use crate::malformed::Unencodable;
use crate::value::{Records, Str, Uuid};

/// A frame ready to send: its length prefix, then its bytes, as pieces for one gathered write.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Encoded {
    /// The pieces in the order they are sent. None is empty.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The pieces, given away.
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }

    /// Bytes of all pieces, the 4 bytes of the length prefix included.
    #[expect(clippy::len_without_is_empty, reason = "a frame has at least its length prefix")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// All pieces copied into one buffer; for tests and small requests.
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [only] => only.clone(),
            pieces => Bytes::from(pieces.concat()),
        }
    }
}

/// Writes one frame from front to back. A value without an encoding is remembered and reported by `finish`.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Everything but the spliced pieces.
    buf: BytesMut,
    /// Pieces and where in `buf` they come, ascending.
    splices: Vec<(usize, Bytes)>,
    flexible: bool,
    fault: Option<Unencodable>,
}

impl Writer {
    /// A frame that starts with room for its length prefix.
    pub(crate) fn frame() -> Self {
        let mut writer = Self::bare();
        writer.buf.put_i32(0);
        writer
    }

    /// Bytes without a length prefix, for blobs inside messages.
    pub(crate) fn bare() -> Self {
        Self {
            buf: BytesMut::with_capacity(FIRST_BYTES),
            splices: Vec::new(),
            flexible: false,
            fault: None,
        }
    }

    /// From here on lengths are compact and structs end in tagged fields, or not (KIP-482).
    pub(crate) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// The frame with its length filled in.
    pub(crate) fn finish(mut self) -> Result<Encoded, Unencodable> {
        let spliced: usize = self.splices.iter().map(|(_, piece)| piece.len()).sum();
        let total = self.buf.len() + spliced;
        let len = total.saturating_sub(LENGTH_BYTES);
        match (i32::try_from(len), self.buf.first_chunk_mut::<LENGTH_BYTES>()) {
            (Ok(len), Some(prefix)) => *prefix = len.to_be_bytes(),
            _ => self.fail(Unencodable::TooLong { len }),
        }
        self.finish_bare(total)
    }

    /// The bytes of a blob, in one piece.
    pub(crate) fn finish_blob(self) -> Result<Bytes, Unencodable> {
        let len = self.buf.len();
        self.finish_bare(len).map(|encoded| encoded.to_bytes())
    }

    fn finish_bare(self, len: usize) -> Result<Encoded, Unencodable> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut rest = self.buf.freeze();
        let mut pieces = Vec::with_capacity(self.splices.len() * 2 + 1);
        let mut cut = 0;
        for (position, piece) in self.splices {
            if position > cut {
                pieces.push(rest.split_to(position - cut));
                cut = position;
            }
            pieces.push(piece);
        }
        if !rest.is_empty() {
            pieces.push(rest);
        }
        Ok(Encoded { pieces, len })
    }

    fn fail(&mut self, fault: Unencodable) {
        self.fault.get_or_insert(fault);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.buf.put_u8(u8::from(value));
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.buf.put_i8(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.buf.put_i16(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.buf.put_u16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.buf.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.buf.put_i64(value);
    }

    pub(crate) fn f64(&mut self, value: f64) {
        self.buf.put_f64(value);
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.buf.put_slice(&value.0);
    }

    pub(crate) fn err(&mut self, value: ErrorCode) {
        self.buf.put_i16(value.0);
    }

    pub(crate) fn uvarint(&mut self, value: u32) {
        let mut rest = value;
        loop {
            let [low, ..] = rest.to_le_bytes();
            rest >>= 7;
            if rest == 0 {
                return self.buf.put_u8(low & 0x7f);
            }
            self.buf.put_u8(low | 0x80);
        }
    }

    /// A length: compact when flexible, else an int32.
    fn length(&mut self, len: usize) {
        let Ok(wide) = i32::try_from(len) else { return self.fail(Unencodable::TooLong { len }) };
        if self.flexible {
            self.uvarint(wide.unsigned_abs() + 1);
        } else {
            self.i32(wide);
        }
    }

    /// Null, or the empty value where the version has no null.
    fn null(&mut self, nullable: bool, short: bool) {
        match (self.flexible, short) {
            (true, _) => self.uvarint(u32::from(!nullable)),
            (false, true) => self.i16(if nullable { -1 } else { 0 }),
            (false, false) => self.i32(if nullable { -1 } else { 0 }),
        }
    }

    pub(crate) fn str(&mut self, value: &Str) {
        let bytes = value.as_bytes();
        if self.flexible {
            self.length(bytes.len());
        } else {
            match i16::try_from(bytes.len()) {
                Ok(len) => self.i16(len),
                Err(_) => return self.fail(Unencodable::StringTooLong { len: bytes.len() }),
            }
        }
        self.buf.put_slice(bytes);
    }

    pub(crate) fn nstr(&mut self, value: Option<&Str>, nullable: bool) {
        match value {
            Some(value) => self.str(value),
            None => self.null(nullable, true),
        }
    }

    pub(crate) fn bytes(&mut self, value: &Bytes) {
        self.length(value.len());
        self.buf.put_slice(value);
    }

    pub(crate) fn nbytes(&mut self, value: Option<&Bytes>, nullable: bool) {
        match value {
            Some(value) => self.bytes(value),
            None => self.null(nullable, false),
        }
    }

    /// Record batches: their length here, their bytes spliced in behind it unless they are few.
    pub(crate) fn records(&mut self, value: Option<&Bytes>, nullable: bool) {
        match value {
            Some(value) if value.len() >= SPLICE_BYTES_MIN => {
                self.length(value.len());
                self.splices.push((self.buf.len(), value.clone()));
            }
            value => self.nbytes(value, nullable),
        }
    }

    /// Record batches in pieces: their length here, behind it every piece spliced in unless it is short.
    pub(crate) fn pieces(&mut self, value: Option<&Records>, nullable: bool) {
        let Some(value) = value else { return self.null(nullable, false) };
        self.length(value.len());
        for piece in value.pieces() {
            if piece.len() >= SPLICE_BYTES_MIN {
                self.splices.push((self.buf.len(), piece.clone()));
            } else {
                self.buf.put_slice(piece);
            }
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        items: &[T],
        version: ApiVersion,
        item: fn(&T, &mut Self, ApiVersion),
    ) {
        self.length(items.len());
        for value in items {
            item(value, self, version);
        }
    }

    pub(crate) fn narray<T>(
        &mut self,
        items: Option<&[T]>,
        nullable: bool,
        version: ApiVersion,
        item: fn(&T, &mut Self, ApiVersion),
    ) {
        match items {
            Some(items) => self.array(items, version, item),
            None => self.null(nullable, false),
        }
    }

    pub(crate) fn nstruct<T>(
        &mut self,
        value: Option<&T>,
        version: ApiVersion,
        item: fn(&T, &mut Self, ApiVersion),
    ) {
        match value {
            Some(value) => {
                self.i8(1);
                item(value, self, version);
            }
            None => self.i8(-1),
        }
    }

    /// The number of tagged fields that follow; nothing unless flexible.
    pub(crate) fn tags(&mut self, present: &[bool]) {
        if self.flexible {
            let count = present.iter().filter(|is_present| **is_present).count();
            self.uvarint(u32::try_from(count).unwrap_or_default());
        }
    }

    /// Starts a tagged field; what is written until `end_tag` is its value.
    pub(crate) fn begin_tag(&mut self, tag: u32) -> usize {
        self.uvarint(tag);
        self.buf.len()
    }

    /// Puts the size of the value in front of it.
    pub(crate) fn end_tag(&mut self, start: usize) {
        let end = self.buf.len();
        let size = end.saturating_sub(start);
        match u32::try_from(size) {
            Ok(size) => self.uvarint(size),
            Err(_) => self.fail(Unencodable::TooLong { len: size }),
        }
        let size_bytes = self.buf.len() - end;
        if let Some(value) = self.buf.get_mut(start..) {
            value.rotate_right(size_bytes);
        }
    }
}

/// The length prefix of a frame.
const LENGTH_BYTES: usize = 4;
/// What a frame gets at first: most answers fit.
const FIRST_BYTES: usize = 256;
/// Records shorter than this are copied: a piece of its own costs more (store.md, section 3).
pub(crate) const SPLICE_BYTES_MIN: usize = 1024;
