//! Writes the contract as TypeScript: the types from what serde makes of them, the commands from their signatures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use syn::{Attribute, Expr, FnArg, GenericArgument, Item, ItemFn, Lit, Meta, Pat, PathArguments, ReturnType, Type};
use ts_rs::{Config, TS, TypeVisitor};

use super::*;
use crate::error::CommandError;
use crate::events;

const HEADER: &str = "\
/**
 * What the window and the shell say to each other, as JSON. `npm run contract` writes this file from the Rust half,
 * `src-tauri/src/contract`, and from the commands and events beside it.
 *
 * Units: bytes, seconds, tokens per second; probabilities, shares and rates are 0 to 1.
 * `null` means \"not known\", never zero.
 */
";

#[test]
fn the_windows_half_is_the_same() {
    let mut contract = Contract::default();
    types(&mut contract);
    events::declare(&mut contract);
    let text = contract.text(&commands());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui/src/lib/backend/contract.ts");
    if env::var("CONTRACT").is_ok_and(|wanted| wanted == "write") {
        fs::write(path, text).expect("written");
    } else {
        let there = fs::read_to_string(path).expect("a contract");
        assert!(bare(&there) == bare(&text), "contract.ts is out of date: run `npm run contract` in ui/");
    }
}

/// What the commands take and give; what these consist of comes along.
fn types(contract: &mut Contract) {
    contract.visit::<Calibration>();
    contract.visit::<CalibrationEvent>();
    contract.visit::<ChatEvent>();
    contract.visit::<ChatSettings>();
    contract.visit::<CommandError>();
    contract.visit::<Conversation>();
    contract.visit::<ConversationSummary>();
    contract.visit::<Doctor>();
    contract.visit::<EngineState>();
    contract.visit::<KeyEntry>();
    contract.visit::<LiveSample>();
    contract.visit::<Look>();
    contract.visit::<MemoryPlan>();
    contract.visit::<ModelEntry>();
    contract.visit::<NetworkStatus>();
    contract.visit::<NewKey>();
    contract.visit::<Policy>();
    contract.visit::<PromptMessage>();
    contract.visit::<PullProgress>();
    contract.visit::<Settings>();
    contract.visit::<WindowName>();
}

/// Every command, in the order of the source.
fn commands() -> Vec<ItemFn> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands");
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    let items = files.iter().flat_map(|file| {
        let source = fs::read_to_string(file).expect("a source file");
        syn::parse_file(&source).expect("Rust").items
    });
    items
        .filter_map(|item| match item {
            Item::Fn(function) => Some(function),
            _ => None,
        })
        .filter(|function| {
            function.attrs.iter().any(|a| a.path().segments.last().is_some_and(|s| s.ident == "command"))
        })
        .collect()
}

/// Types by their name, and the lines of the events.
pub(crate) struct Contract {
    config: Config,
    types: BTreeMap<String, String>,
    events: String,
}

impl Default for Contract {
    fn default() -> Self {
        // JSON has one type of number, and a tuple of twenty is better read as an array.
        let config = Config::new().with_large_int("number").with_array_tuple_limit(0);
        Self { config, types: BTreeMap::new(), events: String::new() }
    }
}

impl TypeVisitor for Contract {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // What is not ours has no file to be exported to.
        if T::output_path().is_some() {
            let text = format!("{}export {}\n", T::docs().unwrap_or_default(), T::decl(&self.config));
            let text = text.replace("/**\n * ", "/** ").replace("\n */", " */");
            if self.types.insert(T::ident(&self.config), text).is_some() {
                return;
            }
        }
        T::visit_dependencies(self);
        T::visit_generics(self);
    }
}

impl Contract {
    pub(crate) fn event<T: TS + 'static>(&mut self, name: &str) {
        self.visit::<T>();
        let payload = T::name(&self.config);
        writeln!(self.events, "{name}: {payload};").expect("room");
    }

    fn text(&self, commands: &[ItemFn]) -> String {
        let types: String = self.types.values().map(|text| format!("\n{text}")).collect();
        let (mut once, mut streams) = (String::new(), String::new());
        for command in commands {
            let Signature { about, name, arguments, event, result } = self.signature(command);
            let arguments = if arguments.is_empty() {
                "Record<string, never>".to_owned()
            } else {
                format!("{{ {} }}", arguments.join("; "))
            };
            match event {
                None => writeln!(once, "{about}{name}: {{ args: {arguments}; result: {result} }};"),
                Some(event) => writeln!(streams, "{about}{name}: {{ args: {arguments}; event: {event} }};"),
            }
            .expect("room");
        }
        let events = &self.events;
        format!(
            "{HEADER}{types}
/** Commands that answer once. All reject with a `CommandError`. */
export interface Commands {{ {once} }}

/** Commands that answer once the work is accepted, and tell how it goes on. */
export interface Streams {{ {streams} }}

/** What the shell says by itself. */
export interface Events {{ {events} }}
"
        )
    }

    fn signature(&self, command: &ItemFn) -> Signature {
        let (mut arguments, mut event) = (Vec::new(), None);
        for argument in &command.sig.inputs {
            let FnArg::Typed(argument) = argument else { panic!("a method is no command") };
            let Pat::Ident(pattern) = &*argument.pat else { panic!("an argument without a name") };
            match last(&argument.ty) {
                // These are Tauri's to give.
                (name, _) if ["AppHandle", "State", "WebviewWindow"].contains(&name.as_str()) => {}
                (name, of) if name == "Channel" => event = Some(self.name(of[0])),
                _ => arguments.push(format!("{}: {}", camel(&pattern.ident.to_string()), self.name(&argument.ty))),
            }
        }
        Signature {
            about: about(&command.attrs),
            name: command.sig.ident.to_string(),
            arguments,
            event,
            result: match &command.sig.output {
                ReturnType::Default => "null".to_owned(),
                ReturnType::Type(_, result) => self.name(result),
            },
        }
    }

    /// What a type of a signature is called in TypeScript.
    fn name(&self, of: &Type) -> String {
        if matches!(of, Type::Tuple(unit) if unit.elems.is_empty()) {
            return "null".to_owned();
        }
        let (name, of) = last(of);
        match name.as_str() {
            "Result" => self.name(of[0]),
            "Option" => format!("{} | null", self.name(of[0])),
            "Vec" => format!("Array<{}>", self.name(of[0])),
            "String" | "PathBuf" => "string".to_owned(),
            "bool" => "boolean".to_owned(),
            "u64" => "number".to_owned(),
            _ if self.types.contains_key(&name) => name,
            _ => panic!("{name} is in the signature of a command and not in `types`"),
        }
    }
}

/// A command as the window calls it.
struct Signature {
    /// Its documentation.
    about: String,
    name: String,
    arguments: Vec<String>,
    /// What comes through its channel, if it has one.
    event: Option<String>,
    result: String,
}

/// The last name of a type's path, and the types that it is given.
fn last(of: &Type) -> (String, Vec<&Type>) {
    let Type::Path(path) = of else { panic!("a type without a name crosses to the window") };
    let segment = path.path.segments.last().expect("a name");
    let given = match &segment.arguments {
        PathArguments::AngleBracketed(given) => given.args.iter().collect(),
        _ => Vec::new(),
    };
    let types = given.into_iter().filter_map(|argument| match argument {
        GenericArgument::Type(of) => Some(of),
        _ => None,
    });
    (segment.ident.to_string(), types.collect())
}

fn about(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(text) => Some(&text.lit),
            _ => None,
        },
        _ => None,
    });
    let text: String = lines.map(|line| if let Lit::Str(line) = line { line.value() } else { String::new() }).collect();
    if text.is_empty() { text } else { format!("/**{text} */\n") }
}

/// As Tauri has the window write it.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

/// Without what Prettier changes.
fn bare(text: &str) -> String {
    let code: String = text.chars().filter(|c| !c.is_whitespace() && !"'\",;()".contains(*c)).collect();
    // It begins the lines of a long union with a bar.
    code.replace("=|", "=")
}
