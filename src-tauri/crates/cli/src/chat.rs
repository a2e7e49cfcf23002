//! `mobile chat`: a conversation in the terminal.

use mobile_engine::{Engine, Finished, Message, Policy, Request};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::args::ChatArgs;
use crate::error::Failure;
use crate::generate::{answer, summary, write_now};
use crate::{interrupt, model};

const HELP: &str = "\
/help             this list
/new              begin a new conversation
/system TEXT      begin a new conversation with this system message
/retry            answer the last message again
/undo             take back the last message and its answer
/policy NAME      full, little, mobile, mass or auto
/gamma NUMBER     threshold of mobile and auto
/stats            figures of the last answer
/quit             leave (or Ctrl-D); Ctrl-C ends an answer";

pub(crate) fn run(args: &ChatArgs) -> Result<(), Failure> {
    interrupt::install()?;
    let engine = model::load(&args.model)?;
    if !engine.text().has_template() {
        return Err(Failure::Model(format!("{} has no chat template; use mobile generate --raw", engine.info().name)));
    }
    let mut editor = DefaultEditor::new().map_err(|e| Failure::Other(e.to_string()))?;
    eprintln!(
        "{}: {} experts, {} a token. /help lists what can be typed.",
        engine.info().name,
        engine.info().experts,
        engine.info().top_k
    );
    let policy = args.decoding.policy.policy(engine.info());
    let mut chat = Chat { engine, args, policy, messages: Vec::new(), last: None };
    chat.begin(args.system.as_deref());
    loop {
        let line = match editor.readline("> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(e) => return Err(Failure::Input(format!("cannot read the message: {e}"))),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // A line that cannot be remembered is still answered.
        let _ = editor.add_history_entry(line);
        let before = chat.messages.clone();
        let done = match line.strip_prefix('/') {
            Some(command) => match chat.command(command)? {
                Next::Ask => chat.ask(),
                Next::Wait => Ok(()),
                Next::Quit => return Ok(()),
            },
            None => {
                chat.messages.push(Message::new("user", line));
                chat.ask()
            }
        };
        match done {
            // A refused request ends neither the conversation nor the program.
            Err(Failure::Request(error)) => {
                eprintln!("{error}");
                chat.messages = before;
            }
            other => other?,
        }
    }
}

struct Chat<'a> {
    engine: Engine,
    args: &'a ChatArgs,
    policy: Policy,
    messages: Vec<Message>,
    last: Option<Finished>,
}

/// What follows a command.
enum Next {
    Ask,
    Wait,
    Quit,
}

impl Chat<'_> {
    fn begin(&mut self, system: Option<&str>) {
        self.messages = system.iter().map(|s| Message::new("system", *s)).collect();
    }

    fn ask(&mut self) -> Result<(), Failure> {
        let ids = self.engine.text().encode_chat(&self.messages).map_err(Failure::Request)?;
        let request = Request {
            sampling: self.args.decoding.sampling(),
            policy: self.policy,
            ..Request::new(ids, self.args.decoding.max_tokens as usize)
        };
        let mut text = String::new();
        let (_, finished) = answer(&self.engine, request, |piece| {
            text.push_str(piece);
            write_now(piece)
        })?;
        write_now("\n")?;
        self.messages.push(Message::new("assistant", text.trim()));
        self.last = Some(finished);
        Ok(())
    }

    fn command(&mut self, command: &str) -> Result<Next, Failure> {
        let (name, rest) = command.split_once(' ').map_or((command, ""), |(n, r)| (n, r.trim()));
        match name {
            "help" => eprintln!("{HELP}"),
            "quit" | "exit" | "bye" => return Ok(Next::Quit),
            "new" => self.begin(self.args.system.as_deref()),
            "system" => self.begin(Some(rest).filter(|r| !r.is_empty())),
            "undo" => self.take_back(),
            "retry" => {
                if self.messages.last().is_some_and(|m| m.role == "assistant") {
                    self.messages.pop();
                    return Ok(Next::Ask);
                }
                eprintln!("nothing has been answered yet");
            }
            "policy" => self.set_policy(rest),
            "gamma" => self.set_gamma(rest),
            "stats" => match &self.last {
                Some(finished) => eprintln!("{}", summary(finished)),
                None => eprintln!("nothing has been answered yet"),
            },
            _ => eprintln!("/{name} is not known; /help lists what is"),
        }
        Ok(Next::Wait)
    }

    fn take_back(&mut self) {
        for role in ["assistant", "user"] {
            if self.messages.last().is_some_and(|m| m.role == role) {
                self.messages.pop();
            }
        }
    }

    fn set_policy(&mut self, name: &str) {
        let mobile = match self.policy {
            Policy::Mobile(m) | Policy::Auto(m) => m,
            _ => Default::default(),
        };
        let policy = match name {
            "full" => Policy::Full,
            "little" => Policy::Little { renormalize: mobile.renormalize },
            "mobile" => Policy::Mobile(mobile),
            "mass" => Policy::Mass { share: self.args.decoding.policy.share },
            "auto" => Policy::Auto(mobile),
            _ => return eprintln!("policies are full, little, mobile, mass and auto; now {}", self.policy.name()),
        };
        self.take(policy);
    }

    fn set_gamma(&mut self, value: &str) {
        let Ok(gamma) = value.parse() else { return eprintln!("/gamma wants a number, as in /gamma 0.7") };
        match self.policy {
            Policy::Mobile(m) => self.take(Policy::Mobile(mobile_engine::Mobile { gamma, ..m })),
            Policy::Auto(m) => self.take(Policy::Auto(mobile_engine::Mobile { gamma, ..m })),
            _ => eprintln!("policy {} has no threshold; /policy mobile has", self.policy.name()),
        }
    }

    fn take(&mut self, policy: Policy) {
        match policy.check(self.engine.info().top_k) {
            Ok(()) => self.policy = policy,
            Err(error) => eprintln!("{error}"),
        }
    }
}
