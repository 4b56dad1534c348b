//! The prefixes of channels in Redis, and the app that each belongs to.
//!
//! Called by `config::redis`. Laravel puts a prefix before every name in Redis. Where nobody says
//! which, it is made of the app's name as Laravel makes it, of which there are two ways.

use super::{INGEST_HEADING, IngestSource};
use crate::config::ConfigError;
use crate::config::reader::{Reader, name};
use crate::config::source::{Origin, variable};

/// An app that Laravel's broadcasts may be for.
pub(in crate::config) struct Fed {
    pub(in crate::config) app_id: String,
    /// Its own prefix, if its table has one.
    pub(in crate::config) prefix: Option<String>,
    /// Where that stands, or would.
    pub(in crate::config) origin: Origin,
}

impl Fed {
    /// An app that no file and no variable names.
    pub(in crate::config) fn nameless(app_id: &str) -> Self {
        Self {
            app_id: app_id.to_owned(),
            prefix: None,
            origin: Origin::Default,
        }
    }
}

/// Finds the app of each prefix; no prefix is found twice.
pub(super) fn read(
    reader: &mut Reader<'_>,
    apps: &[Fed],
) -> Result<Vec<IngestSource>, ConfigError> {
    let named = read_app_id(reader, apps)?;
    let mut places = Vec::new();
    for app in apps {
        let id = app.app_id.as_str();
        if let Some(prefix) = &app.prefix {
            places.push((prefix.clone(), id, app.origin.clone()));
        } else if named.as_deref().is_some_and(|named| named == id) || apps.len() == 1 {
            let (prefixes, origin) = read_prefixes(reader)?;
            let place = |prefix| (prefix, id, origin.clone());
            places.extend(prefixes.into_iter().map(place));
        } else if named.is_none() {
            return Err(ConfigError::Setting {
                origin: app.origin.clone(),
                problem: PREFIX_MISSING.to_owned(),
            });
        }
    }
    let sources = places.iter().map(|(prefix, id, _)| IngestSource {
        prefix: prefix.clone(),
        app_id: (*id).to_owned(),
    });
    let sources = sources.collect();
    reader.warnings.extend(compare(places)?);
    Ok(sources)
}

fn read_app_id(reader: &mut Reader<'_>, apps: &[Fed]) -> Result<Option<String>, ConfigError> {
    let setting = variable("SLAPBACK_REDIS_INGEST_APP_ID")
        .key("app_id")
        .under(INGEST_HEADING);
    let (id, origin) = reader.look(&setting, name)?;
    if id
        .as_ref()
        .is_some_and(|id| apps.iter().all(|app| app.app_id != *id))
    {
        let problem = "there is no app with this id".to_owned();
        return Err(ConfigError::Setting { origin, problem });
    }
    let unset = match apps {
        [_] => "the only app",
        _ => "each by its redis_prefix",
    };
    let shown = id.clone().unwrap_or_else(|| unset.to_owned());
    reader.note(&setting, shown, "", origin);
    Ok(id)
}

/// The prefixes of the app that has none of its own: several if it is not known which.
fn read_prefixes(reader: &mut Reader<'_>) -> Result<(Vec<String>, Origin), ConfigError> {
    let setting = variable("SLAPBACK_REDIS_INGEST_PREFIX")
        .key("prefix")
        .under(INGEST_HEADING);
    let said = match reader.look_for_text(&setting)? {
        Some(said) => Some(said),
        None => reader.look_for_text(&variable("REDIS_PREFIX"))?,
    };
    let (prefixes, origin) = match said {
        Some((prefix, origin)) => (vec![prefix], origin),
        None => prefixes_by_name(reader)?,
    };
    reader.note(&setting, prefixes.join(", "), "", origin.clone());
    Ok((prefixes, origin))
}

fn prefixes_by_name(reader: &Reader<'_>) -> Result<(Vec<String>, Origin), ConfigError> {
    let said = reader.look_for_text(&variable("APP_NAME"))?;
    let (name, origin) = said.unwrap_or_else(|| ("laravel".to_owned(), Origin::Default));
    if !name.is_ascii() {
        return Err(ConfigError::Setting {
            origin,
            problem: NAME_UNUSUAL.to_owned(),
        });
    }
    // Laravel 12 and before, then Laravel 13.
    let prefix = |mark: &str| format!("{}{mark}database{mark}", slug(&name, mark));
    Ok((vec![prefix("_"), prefix("-")], origin))
}

/// Laravel's `Str::slug` of an ASCII name.
fn slug(name: &str, mark: &str) -> String {
    let parts = |letter: char| letter.is_ascii_whitespace() || "-_\x0b".contains(letter);
    let kept = |letter: &char| letter.is_ascii_alphanumeric() || parts(*letter);
    let name: String = name.replace('@', " at ").chars().filter(kept).collect();
    let words: Vec<_> = name.split(parts).filter(|word| !word.is_empty()).collect();
    words.join(mark).to_ascii_lowercase()
}

/// Refuses a prefix that two apps have. Warns if one begins another, which is told of one pair:
/// whoever may listen to any channel of the one app can name those of the other.
fn compare(mut places: Vec<(String, &str, Origin)>) -> Result<Option<String>, ConfigError> {
    places.sort_by(|one, other| one.0.cmp(&other.0));
    let mut warning = None;
    // What begins a text stands before it, with nothing between that it does not begin too.
    for pair in places.windows(2) {
        let [(short, app, _), (long, _, origin)] = pair else {
            continue;
        };
        if short == long {
            return Err(ConfigError::Setting {
                origin: origin.clone(),
                problem: format!("app {app} has the same prefix in Redis"),
            });
        }
        if long.starts_with(short) && warning.is_none() {
            warning = Some(format!(
                "{origin}: begins with the prefix of app {app}, whose clients can listen to these \
                 channels too"
            ));
        }
    }
    Ok(warning)
}

const PREFIX_MISSING: &str = "is missing: with several apps each needs one, or redis_ingest.app_id \
     (SLAPBACK_REDIS_INGEST_APP_ID) names the app that all broadcasts are for";
const NAME_UNUSUAL: &str = "has letters that Laravel spells its own way in the prefix of Redis: set \
     REDIS_PREFIX to what php artisan tinker --execute 'echo \
     config(\"database.redis.options.prefix\");' prints";
