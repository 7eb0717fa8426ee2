//! Lists: filtered by name, sorted, cut into pages and columns, as the query string says.

use regex::RegexBuilder;
use serde_json::{Map, Value, json};

use super::ask::Ask;
use super::problem::{Problem, Reply};

/// A list for who asks.
pub(super) fn reply(ask: &Ask, mut items: Vec<Value>) -> Result<Reply, Problem> {
    let total = items.len();
    if let Some(wanted) = ask.word("name").filter(|wanted| !wanted.is_empty()) {
        let keep = matcher(wanted, ask.flag("use_regex"))?;
        items.retain(|item| item.get("name").and_then(Value::as_str).is_some_and(&keep));
    }
    if let Some(column) = ask.word("sort").filter(|column| !column.is_empty()) {
        items.sort_by(|a, b| compare(at(a, column), at(b, column)));
        if ask.flag("sort_reverse") {
            items.reverse();
        }
    }
    let filtered = items.len();
    let page = match ask.word("page") {
        None => return Ok(Reply::Json(Value::Array(columns(ask, items)))),
        Some(_) if ask.word("pagination") == Some("false") => (1, PAGE_MAX),
        Some(_) => page(ask)?,
    };
    let (number, size) = page;
    let pages = filtered.div_ceil(size).max(1);
    if number > pages {
        return Err(Problem::bad(format!("page_out_of_range: page {number} of {pages}")));
    }
    let shown: Vec<Value> = items.into_iter().skip((number - 1) * size).take(size).collect();
    let shown = columns(ask, shown);
    Ok(Reply::Json(json!({
        "filtered_count": filtered, "item_count": shown.len(), "items": shown,
        "page": number, "page_count": pages, "page_size": size, "total_count": total,
    })))
}

fn page(ask: &Ask) -> Result<(usize, usize), Problem> {
    let number = |name: &str, default: usize| match ask.word(name).unwrap_or_default() {
        "" => Ok(default),
        text => text
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| Problem::bad(format!("{name} must be a whole number above 0"))),
    };
    Ok((number("page", 1)?, number("page_size", 100)?.min(PAGE_MAX)))
}

fn matcher(wanted: &str, is_regex: bool) -> Result<impl Fn(&str) -> bool + use<>, Problem> {
    let pattern = if is_regex { wanted.to_owned() } else { regex::escape(wanted) };
    let compiled = RegexBuilder::new(&pattern)
        .size_limit(REGEX_BYTES_MAX)
        .case_insensitive(!is_regex)
        .build()
        .map_err(|_| Problem::bad("name is no regular expression"))?;
    Ok(move |name: &str| compiled.is_match(name))
}

/// `a.b` is `b` inside `a`.
fn at<'a>(item: &'a Value, column: &str) -> Option<&'a Value> {
    column.split('.').try_fold(item, |inner, name| inner.get(name))
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> std::cmp::Ordering {
    match (a, b) {
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (a, b) => {
            let number = |value: Option<&Value>| value.and_then(Value::as_f64).unwrap_or(0.0);
            number(a).total_cmp(&number(b))
        }
    }
}

fn columns(ask: &Ask, items: Vec<Value>) -> Vec<Value> {
    let Some(wanted) = ask.word("columns").filter(|wanted| !wanted.is_empty()) else {
        return items;
    };
    let wanted: Vec<&str> = wanted.split(',').collect();
    let cut = |item: Value| {
        let mut kept = Map::new();
        for column in &wanted {
            if let Some(value) = at(&item, column) {
                put(&mut kept, column, value);
            }
        }
        Value::Object(kept)
    };
    items.into_iter().map(cut).collect()
}

fn put(into: &mut Map<String, Value>, column: &str, value: &Value) {
    match column.split_once('.') {
        None => drop(into.insert(column.to_owned(), value.clone())),
        Some((outer, inner)) => {
            let nested = into.entry(outer).or_insert_with(|| json!({}));
            if let Value::Object(nested) = nested {
                put(nested, inner, value);
            }
        }
    }
}

/// Items of a page at most, as in RabbitMQ.
const PAGE_MAX: usize = 500;
/// A compiled regular expression larger than this is refused.
const REGEX_BYTES_MAX: usize = 1 << 20;
