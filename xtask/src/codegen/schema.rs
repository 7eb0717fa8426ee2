//! Reads the message tables; `crates/kafka-proto/schema/README.md` describes their notation.

/// Versions from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) first: i16,
    pub(super) last: i16,
}

impl Versions {
    pub(super) const ALL: Self = Self { first: 0, last: i16::MAX };

    pub(super) fn contains(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(first) = text.strip_suffix('+') {
            return Some(Self { first: first.parse().ok()?, last: i16::MAX });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()? })
    }
}

/// An API with its two halves, or (without a key) a blob with one.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) key: Option<i16>,
    pub(super) name: String,
    pub(super) versions: Versions,
    /// `i16::MAX` if never.
    pub(super) flexible: i16,
    /// Structs in the order they are described; the outermost carry the names `…Request`, `…Response` or the blob's.
    pub(super) structs: Vec<Struct>,
}

#[derive(Debug)]
pub(super) struct Struct {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    depth: usize,
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) array: bool,
    /// A primitive of the notation or the name of a struct.
    pub(super) kind: String,
    pub(super) versions: Versions,
    pub(super) null: Option<Versions>,
    pub(super) tag: Option<u32>,
    pub(super) default: Option<String>,
}

impl Field {
    pub(super) fn is_struct(&self) -> bool {
        self.kind.starts_with(char::is_uppercase)
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Api>, String> {
    let mut apis: Vec<Api> = Vec::new();
    let mut open: Vec<usize> = Vec::new(); // index of the struct that is open at each depth
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let depth = (line.len() - content.len()) / 2;
        let fault = |what: &str| format!("line {}: {what}: {content}", number + 1);
        let words: Vec<&str> = content.split_whitespace().collect();
        if depth == 0 {
            open.clear();
            match head(&words).ok_or_else(|| fault("not a head"))? {
                Head::Api(api) => {
                    if api.key.is_none() {
                        open.push(0);
                    }
                    apis.push(api);
                }
                Head::Half(suffix) => {
                    let api = apis.last_mut().ok_or_else(|| fault("no api above"))?;
                    open.push(api.structs.len());
                    let name = format!("{}{suffix}", api.name);
                    api.structs.push(Struct { name, fields: Vec::new(), depth });
                }
            }
            continue;
        }
        let api = apis.last_mut().ok_or_else(|| fault("no api above"))?;
        open.truncate(depth);
        let owner = *open.last().filter(|_| open.len() == depth).ok_or_else(|| fault("indent"))?;
        let field = field(&words).ok_or_else(|| fault("not a field"))?;
        if field.is_struct() {
            let known = api.structs.iter().position(|known| known.name == field.kind);
            open.push(known.unwrap_or(api.structs.len()));
            if known.is_none() {
                let name = field.kind.clone();
                api.structs.push(Struct { name, fields: Vec::new(), depth });
            }
        }
        let owner = api.structs.get_mut(owner).ok_or_else(|| fault("indent"))?;
        if owner.depth + 1 != depth || owner.fields.iter().any(|other| other.name == field.name) {
            return Err(fault("described a second time"));
        }
        owner.fields.push(field);
    }
    Ok(apis)
}

enum Head {
    Api(Api),
    Half(&'static str),
}

fn head(words: &[&str]) -> Option<Head> {
    let api = |key, name: &str, versions, flexible| Api {
        key,
        name: name.to_owned(),
        versions,
        flexible,
        structs: Vec::new(),
    };
    match words {
        ["api", key, name, versions, "flexible", flexible] => {
            let flexible = if *flexible == "none" { i16::MAX } else { flexible.parse().ok()? };
            Some(Head::Api(api(
                Some(key.parse().ok()?),
                name,
                Versions::parse(versions)?,
                flexible,
            )))
        }
        ["data", name, versions] => {
            let mut blob = api(None, name, Versions::parse(versions)?, i16::MAX);
            blob.structs.push(Struct { name: blob.name.clone(), fields: Vec::new(), depth: 0 });
            Some(Head::Api(blob))
        }
        ["request"] => Some(Head::Half("Request")),
        ["response"] => Some(Head::Half("Response")),
        _ => None,
    }
}

fn field(words: &[&str]) -> Option<Field> {
    let (name, kind, mut rest) = match words {
        [name, kind, rest @ ..] => (*name, *kind, rest),
        _ => return None,
    };
    let (kind, mut null) = match kind.strip_suffix('?') {
        Some(kind) => (kind, Some(Versions::ALL)),
        None => (kind, None),
    };
    let (kind, array) = kind.strip_prefix("[]").map_or((kind, false), |item| (item, true));
    let mut field = Field {
        name: name.to_owned(),
        array,
        kind: kind.to_owned(),
        versions: Versions::ALL,
        null: None,
        tag: None,
        default: None,
    };
    if let [versions, after @ ..] = rest
        && versions.starts_with(|c: char| c.is_ascii_digit())
    {
        field.versions = Versions::parse(versions)?;
        rest = after;
    }
    loop {
        rest = match rest {
            [] => break,
            ["null", versions, after @ ..] => {
                null = Some(Versions::parse(versions)?);
                after
            }
            ["tag", tag, after @ ..] => {
                field.tag = Some(tag.parse().ok()?);
                after
            }
            ["=", default, after @ ..] => {
                field.default = Some((*default).to_owned());
                after
            }
            _ => return None,
        };
    }
    field.null = null;
    let known = "bool i8 i16 u16 i32 i64 f64 uuid str bytes records pieces err";
    let is_known = field.is_struct() || known.split(' ').any(|kind| kind == field.kind);
    let is_tag_fine = field.tag.is_none() || !matches!(field.kind.as_str(), "records" | "pieces"); // spliced pieces have no size yet
    (is_known && is_tag_fine).then_some(field)
}
