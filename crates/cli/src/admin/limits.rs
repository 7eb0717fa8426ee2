//! Limits of virtual hosts and users, as their commands share them.

use clap::{ArgMatches, Command};
use serde_json::json;

use super::{Done, api, done, name_of, option};
use crate::exit::{Code, Failure};
use crate::kafka::text;

/// `limit NAME --max-…`
pub(super) fn command(what: &'static str, limits: [&'static str; 2]) -> Command {
    let command = Command::new("limit").about("Limits what it may have").arg(name_of(what));
    limits.into_iter().fold(command, |command, limit| {
        let about = "at most so many; `none` for no limit";
        command.arg(option(limit, "N", about).allow_negative_numbers(true))
    })
}

/// `resource` is `vhost-limits` or `user-limits`.
pub(super) fn run(arguments: &ArgMatches, resource: &str, limits: [&str; 2]) -> Done {
    let (api, name) = (api(arguments)?, text(arguments, "name"));
    let mut set = Vec::new();
    for limit in limits {
        let Some(value) = arguments.get_one::<String>(limit) else { continue };
        if value == "none" {
            api.delete(&[resource, &name, limit], "")?;
        } else {
            let number: i64 = value.parse().map_err(|_| {
                Failure::new(Code::Usage, format!("--{limit} must be a whole number, or `none`"))
            })?;
            api.put(&[resource, &name, limit], &json!({"value": number}))?;
        }
        set.push(format!("{limit} {value}"));
    }
    if set.is_empty() {
        let what = format!("nothing to limit: give --{}", limits.join(" or --"));
        return Err(Failure::new(Code::Usage, what));
    }
    done(arguments, &format!("limited {name}: {}", set.join(", ")))
}
