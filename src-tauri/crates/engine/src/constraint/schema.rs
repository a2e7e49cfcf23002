//! Which schemas can be followed: every keyword is known, and compiling them stays quick.

use std::collections::HashMap;

use serde_json::Value;

use crate::error::{Error, Result};

/// Subschemas of a schema at most, and how deep they may be nested.
const SUBSCHEMAS: usize = 2000;
const DEPTH: usize = 64;

/// Patterns that one text may have to match at once. The time to see whether any text can grows faster than their number:
/// a third of a second for 64, minutes for 200.
const PATTERNS_AT_ONCE: usize = 64;

/// Keywords whose value is a schema, a list of them, or schemas by name.
const ONE: &[&str] = &["additionalItems", "additionalProperties", "items"];
const LISTS: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
const NAMED: &[&str] = &["$defs", "definitions", "patternProperties", "properties"];

/// Keywords with other values that are followed.
const PLAIN: &[&str] = &[
    "$ref",
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "type",
];

/// Keywords that say something about a value and ask for nothing.
const NOTES: &[&str] = &[
    "$comment",
    "contentEncoding",
    "contentMediaType",
    "default",
    "deprecated",
    "description",
    "discriminator",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];

/// Keywords that would change what `$ref` means further in.
const AT_THE_ROOT: &[&str] = &["$id", "$schema", "id"];

/// Refuses a schema that would not be followed to the letter, naming the first keyword at fault and where it is, and one
/// that is too large. Walks by recursion along `$ref`.
pub(super) fn check(schema: &Value) -> Result<()> {
    check_keywords(schema)?;
    let mut patterns = Patterns { root: schema, known: HashMap::new() };
    if patterns.at_once(schema) > PATTERNS_AT_ONCE {
        let why = format!("at most {PATTERNS_AT_ONCE} patterns and formats may apply to one text");
        return Err(Error::Constraint(why));
    }
    Ok(())
}

fn check_keywords(schema: &Value) -> Result<()> {
    let mut waiting = vec![("#".to_owned(), schema, 0)];
    let mut seen = 0;
    while let Some((at, schema, depth)) = waiting.pop() {
        seen += 1;
        if seen > SUBSCHEMAS || depth > DEPTH {
            let why = format!("it may have {SUBSCHEMAS} subschemas, {DEPTH} deep, and has more");
            return Err(Error::Constraint(why));
        }
        let keywords = match schema {
            Value::Bool(_) => continue,
            Value::Object(keywords) => keywords,
            _ => return Err(Error::Constraint(format!("{at}: a schema must be an object or a boolean"))),
        };
        for (keyword, value) in keywords {
            if depth > 0 && AT_THE_ROOT.contains(&keyword.as_str()) {
                return Err(Error::Constraint(format!("{at}: the keyword {keyword:?} is supported only at the root")));
            }
            let inner = inner(keyword, value)
                .ok_or_else(|| Error::Constraint(format!("{at}: the keyword {keyword:?} is not supported")))?;
            waiting.extend(inner.into_iter().map(|(name, s)| (format!("{at}/{keyword}{name}"), s, depth + 1)));
        }
    }
    Ok(())
}

/// The schemas that a keyword holds; `None` for a keyword that is not known.
fn inner<'a>(keyword: &str, value: &'a Value) -> Option<Vec<(String, &'a Value)>> {
    Some(match value {
        // Before draft 2020-12 `items` may be a list.
        Value::Array(schemas) if LISTS.contains(&keyword) || keyword == "items" => {
            schemas.iter().enumerate().map(|(number, schema)| (format!("/{number}"), schema)).collect()
        }
        Value::Object(schemas) if NAMED.contains(&keyword) => {
            schemas.iter().map(|(name, schema)| (format!("/{name}"), schema)).collect()
        }
        _ if ONE.contains(&keyword) => vec![(String::new(), value)],
        // The library says what is wrong with a value of the wrong type.
        _ if [LISTS, NAMED, PLAIN, NOTES, AT_THE_ROOT].iter().any(|known| known.contains(&keyword)) => Vec::new(),
        _ => return None,
    })
}

/// Counts the patterns that meet in one text.
struct Patterns<'a> {
    root: &'a Value,
    /// By `$ref`; zero while a schema that refers to itself is being counted.
    known: HashMap<&'a str, usize>,
}

impl<'a> Patterns<'a> {
    fn at_once(&mut self, schema: &'a Value) -> usize {
        let mut together = 0;
        let mut apart = 0;
        for (keyword, value) in schema.as_object().into_iter().flatten() {
            let keyword = keyword.as_str();
            let schemas = inner(keyword, value).unwrap_or_default().into_iter();
            match (keyword, value) {
                ("pattern" | "format", _) => together += 1,
                ("$ref", Value::String(name)) => together += self.referred(name),
                ("allOf", _) => together += schemas.map(|(_, s)| self.at_once(s)).fold(0, usize::saturating_add),
                ("anyOf" | "oneOf", _) => together += schemas.map(|(_, s)| self.at_once(s)).max().unwrap_or(0),
                _ => apart = schemas.map(|(_, s)| self.at_once(s)).max().unwrap_or(0).max(apart),
            }
            together = together.min(usize::from(u16::MAX));
        }
        together + apart
    }

    fn referred(&mut self, name: &'a str) -> usize {
        if let Some(&count) = self.known.get(name) {
            return count;
        }
        self.known.insert(name, 0);
        let steps = name.trim_start_matches(['#', '/']).split('/').filter(|step| !step.is_empty());
        let target = steps.into_iter().try_fold(self.root, |at, step| match at {
            Value::Array(list) => list.get(step.parse::<usize>().ok()?),
            _ => at.get(step),
        });
        // A reference to nothing is refused later, by its name.
        let count = target.map_or(0, |schema| self.at_once(schema));
        self.known.insert(name, count);
        count
    }
}
