//! W3C Trace Context: which trace a message belongs to.

use std::fmt;

use crate::mint::Mint;

/// `traceparent` and `tracestate` (W3C Trace Context §3.2, §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Which trace.
    pub trace: u128,
    /// Which step of it.
    pub span: u64,
    /// Bit 0: sampled.
    pub flags: u8,
    /// What vendors added, passed on as it is; may be empty.
    pub state: String,
}

impl TraceContext {
    /// The beginning of a trace.
    #[must_use]
    pub fn begin(mint: &Mint) -> Self {
        let trace = (u128::from(mint.number()) << 64) | u128::from(mint.number() | 1);
        Self { trace, span: mint.number() | 1, flags: 1, state: String::new() }
    }

    /// The next step of the same trace.
    #[must_use]
    pub fn child(&self, mint: &Mint) -> Self {
        Self { span: mint.number() | 1, ..self.clone() }
    }

    /// Reads `traceparent`; a later version is read as far as it is known. `None` if it is none.
    #[must_use]
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let mut parts = parent.splitn(5, '-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, digits: usize| {
            text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let whole = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
        if !whole || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace, span, flags, state: state.unwrap_or_default().to_owned() })
    }
}

/// As `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        // W3C Trace Context §3.2.2.3
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text, Some("congo=t61rcWkgMzE")).unwrap();
        assert_eq!(context.to_string(), text);
        assert_eq!(context.state, "congo=t61rcWkgMzE");
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad}");
        }
    }
}
