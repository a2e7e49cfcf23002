//! `mobile`: Mixture-of-Experts models with big and little experts, on the command line.

mod args;
mod bench;
mod calibrate;
mod calibration;
mod chat;
mod convert;
mod doctor;
mod environment;
mod error;
mod eval;
mod experts;
mod generate;
mod interrupt;
mod keys;
mod library;
mod logs;
mod model;
mod names;
mod nodes;
mod numbers;
mod plot;
mod pull;
mod serve;
mod service;
mod settings;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use error::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    environment::check();
    if !matches!(args.command, Command::Serve(_)) {
        logs::warnings();
    }
    if let Err(error) = mobile_engine::use_bundled_kernels() {
        eprintln!("mobile: {error}");
        return ExitCode::FAILURE;
    }
    let done = match args.command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Serve(_) => serve::run(),
        Command::Keys(args) => keys::run(&args.command),
        Command::Nodes(args) => nodes::run(&args),
        Command::Service(args) => service::run(&args),
        Command::List(args) => library::list(&args),
        Command::Info(args) => library::info(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Import(args) => library::import(&args),
        Command::Rm(args) => library::remove(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has gone: nothing is left to say to it.
        Err(Failure::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mobile: {failure}");
            failure.exit_code()
        }
    }
}
