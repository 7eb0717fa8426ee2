//! Which APIs there are, in which versions, and from which version on they are flexible.

#[rustfmt::skip]
mod table;

use std::fmt;

pub use table::ApiKey;

/// A version of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiVersion(pub i16);

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A line of the API table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiSpec {
    /// The API.
    pub key: ApiKey,
    /// Its key on the wire.
    pub code: i16,
    /// Its name in the Kafka protocol.
    pub name: &'static str,
    /// The first version that is served.
    pub first: ApiVersion,
    /// The last version that is served.
    pub last: ApiVersion,
    /// The first version to put into an ApiVersions answer. It differs for Produce only: librdkafka up to 2.x takes the
    /// compression types a broker knows from a range that must start at 0 (KAFKA-18659).
    pub advertised_first: ApiVersion,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub flexible_from: Option<ApiVersion>,
}

impl ApiSpec {
    const fn new(
        key: ApiKey,
        code: i16,
        name: &'static str,
        first: i16,
        last: i16,
        flexible: Option<i16>,
    ) -> Self {
        Self {
            key,
            code,
            name,
            first: ApiVersion(first),
            last: ApiVersion(last),
            advertised_first: ApiVersion(if matches!(key, ApiKey::Produce) { 0 } else { first }),
            flexible_from: match flexible {
                Some(version) => Some(ApiVersion(version)),
                None => None,
            },
        }
    }

    /// Whether the version is served.
    pub fn serves(&self, version: ApiVersion) -> bool {
        (self.first..=self.last).contains(&version)
    }

    /// Whether the version is flexible.
    pub fn is_flexible(&self, version: ApiVersion) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }
}

impl ApiKey {
    /// The API with this key on the wire, `None` if it is not served.
    pub fn from_code(code: i16) -> Option<Self> {
        let place = table::TABLE.binary_search_by_key(&code, |spec| spec.code).ok()?;
        table::TABLE.get(place).map(|spec| spec.key)
    }

    /// The API's line in the table.
    #[expect(clippy::expect_used, reason = "a test looks up every key")]
    pub fn spec(self) -> &'static ApiSpec {
        let place = table::TABLE.binary_search_by_key(&self, |spec| spec.key);
        place.ok().and_then(|place| table::TABLE.get(place)).expect("every key has its line")
    }

    /// The key on the wire.
    pub fn code(self) -> i16 {
        self.spec().code
    }

    /// The name in the Kafka protocol.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// All APIs, ascending by key.
    pub fn all() -> impl Iterator<Item = &'static ApiSpec> {
        table::TABLE.iter()
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_code_and_by_itself() {
        for spec in ApiKey::all() {
            assert_eq!(ApiKey::from_code(spec.code), Some(spec.key));
            assert_eq!(spec.key.spec(), spec);
        }
        assert_eq!(ApiKey::from_code(7), None);
        assert_eq!(ApiKey::from_code(-1), None);
    }

    #[test]
    fn produce_is_advertised_from_zero_and_served_from_three() {
        let produce = ApiKey::Produce.spec();
        assert_eq!((produce.advertised_first.0, produce.first.0, produce.last.0), (0, 3, 13));
        assert!(!produce.serves(ApiVersion(2)));
    }
}
