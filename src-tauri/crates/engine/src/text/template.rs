//! Chat templates: Jinja as Hugging Face's checkpoints use it.

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, State, Value, context};
use mobile_files::read_shared_text;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Fields;
use crate::error::{Error, Result};

/// Bytes of a rendered conversation at most: more than any context holds.
const LONGEST: usize = 16 << 20;

/// Instructions a template may take: real ones take some thousands for a long conversation.
const FUEL: u64 = 20_000_000;

const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled chat template and the special tokens it may name.
#[derive(Debug)]
pub(crate) struct Template {
    environment: Environment<'static>,
    special: Vec<(String, String)>,
}

impl Template {
    /// The checkpoint's template, or `None` where it has none.
    pub(crate) fn open(folder: &Path, settings: Option<&Fields>) -> Result<Option<Self>> {
        let file = folder.join("chat_template.jinja");
        let (path, source) = if file.exists() {
            let source = read_shared_text(&file)?;
            (file, source)
        } else if let Some((fields, source)) = settings.and_then(|s| Some((s, embedded(s)?))) {
            (fields.path().to_owned(), source)
        } else {
            return Ok(None);
        };
        let mut environment = environment();
        environment
            .add_template_owned(NAME, source)
            .map_err(|e| Error::text(&path, format!("the chat template does not parse: {e:#}")))?;
        let special = settings.map(special_tokens).unwrap_or_default();
        Ok(Some(Self { environment, special }))
    }

    pub(crate) fn render(&self, messages: &[Message]) -> Result<String> {
        let special = Value::from_iter(self.special.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let template = self.environment.get_template(NAME).map_err(refused)?;
        let messages = Serde(messages);
        let mut out = Bounded::default();
        let context = context! { messages, add_generation_prompt => true, ..special };
        match template.render_captured_to(context, &mut out) {
            Err(_) if out.full => {
                Err(Error::Template(format!("it makes more than {LONGEST} bytes of the conversation")))
            }
            done => done.map_err(refused).map(|_| String::from_utf8_lossy(&out.text).into_owned()),
        }
    }
}

/// What a template has written. Its instructions are counted, but one of them can write much.
#[derive(Debug, Default)]
struct Bounded {
    text: Vec<u8>,
    full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.full |= self.text.len() + bytes.len() > LONGEST;
        if self.full {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn refused(error: minijinja::Error) -> Error {
    // `raise_exception` carries the template author's own words in the detail.
    Error::Template(error.detail().map_or_else(|| error.to_string(), str::to_owned))
}

/// What Hugging Face renders templates with: its whitespace rules, its functions, and Python's string methods.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("only whitespace options, which cannot contradict each other"));
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| -> Result<String, minijinja::Error> {
        jiff::fmt::strtime::format(&format, &jiff::Zoned::now())
            .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
    });
    environment.add_filter("tojson", tojson);
    environment
}

/// The widest indentation of JSON; a template can ask for any.
const WIDEST: usize = 64;

/// JSON as Python's `json.dumps(ensure_ascii=False)` writes it: unlike Jinja's own filter, nothing is escaped for HTML.
fn tojson(_: &State<'_, '_>, value: Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let bad = |e: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string());
    let mut out = Bounded::default();
    match indent {
        Some(width) => {
            let spaces = [b' '; WIDEST];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces[..width.min(WIDEST)]);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).map_err(bad)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)).map_err(bad)?,
    }
    String::from_utf8(out.text).map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))
}

/// `{"a": 1, "b": [1, 2]}`: one line, with a space after commas and colons.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `chat_template` of tokenizer_config.json: a string, or a list of named templates of which `default` is meant.
fn embedded(settings: &Fields) -> Option<String> {
    let value = settings.get("chat_template")?;
    if let Some(source) = value.as_str() {
        return Some(source.to_owned());
    }
    let named = |v: &&serde_json::Value| v.get("name").and_then(serde_json::Value::as_str) == Some("default");
    let list = value.as_array()?;
    list.iter().find(named).or(list.first())?.get("template")?.as_str().map(str::to_owned)
}

/// `bos_token`, `eos_token` and the like, by name.
fn special_tokens(settings: &Fields) -> Vec<(String, String)> {
    settings
        .iter()
        .filter(|(name, _)| name.ends_with("_token"))
        .filter_map(|(name, value)| Some((name.clone(), token_text(value)?.to_owned())))
        .collect()
}

/// A special token's text: a string, or an object with `content`.
pub(super) fn token_text(value: &serde_json::Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[Message]) -> Result<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("chat_template.jinja"), source).expect("written");
        Template::open(folder.path(), None)?.expect("a template").render(messages)
    }

    #[test]
    fn whitespace_follows_hugging_face() {
        let source = "{% for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m.content }}]\n    {% endif %}\n{% endfor %}\n";
        assert_eq!(render(source, &[Message::new("user", "hi")]).expect("rendered"), "[hi]\n");
    }

    #[test]
    fn loop_controls_python_methods_and_tojson_work() {
        let source = "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}\
                      {{ m.content.strip().upper() }} {{ {'a': '<b>', 'n': [1, 2]} | tojson }}{% endfor %}";
        let messages = [Message::new("user", " x "), Message::new("user", "y")];
        assert_eq!(render(source, &messages).expect("rendered"), r#"X {"a": "<b>", "n": [1, 2]}"#);
    }

    #[test]
    fn the_date_can_be_asked_for() {
        let year = render("{{ strftime_now('%Y') }}", &[]).expect("rendered");
        assert!(year.parse::<u32>().is_ok_and(|y| y > 2000), "{year}");
    }

    #[test]
    fn a_refusal_carries_the_templates_words() {
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).expect_err("refused");
        assert!(matches!(&error, Error::Template(words) if words == "roles must alternate"), "{error}");
    }

    #[test]
    fn an_endless_template_ends() {
        let source = "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(matches!(render(source, &[]), Err(Error::Template(_))));
    }

    #[test]
    fn files_cannot_be_read() {
        assert!(render("{% include '/etc/passwd' %}", &[]).is_err());
    }

    #[test]
    fn a_template_that_does_not_parse_names_its_file() {
        let error = render("{% for %}", &[]).expect_err("refused");
        assert!(error.to_string().contains("chat_template.jinja"), "{error}");
    }
}
