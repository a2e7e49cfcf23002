//! One running answer: the engine's events, bounded by the request's time and the service's life.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _, select_all, unfold};
use mobile_engine::{Engine, Event, FinishReason, Generation, Request, Statistics, Text, Token};
use tokio::time::Instant;

use crate::app::{App, Shared};
use crate::error::ApiError;

/// An answer that runs or waits. Dropping it frees its place in the engine.
pub(crate) struct Answer {
    app: Shared,
    generation: Generation,
    text: Text,
    deadline: Instant,
    unsettled: Vec<Token>,
}

/// What has become certain of an answer.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// More text; may be empty.
    pub(crate) text: String,
    /// The token that this is about, as it came.
    pub(crate) token: Option<Token>,
    /// The tokens that `text` is made of. Those of a stop string or of the end of the answer are in none.
    pub(crate) settled: Vec<Token>,
    /// The last piece's end.
    pub(crate) end: Option<End>,
}

/// How an answer ended.
#[derive(Debug)]
pub(crate) struct End {
    /// OpenAI's `finish_reason`.
    pub(crate) reason: &'static str,
    pub(crate) statistics: Statistics,
}

/// An answer in one piece.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) settled: Vec<Token>,
    pub(crate) end: End,
}

/// Queues all of the requests, or none.
pub(crate) fn submit(app: &Shared, engine: &Engine, requests: Vec<Request>) -> Result<Vec<Answer>, ApiError> {
    let deadline = Instant::now() + app.config.limits.request_time;
    requests
        .into_iter()
        .map(|request| {
            let generation = engine.submit(request)?;
            let (app, text) = (Arc::clone(app), engine.text().clone());
            Ok(Answer { app, generation, text, deadline, unsettled: Vec::new() })
        })
        .collect()
}

impl Answer {
    async fn next(&mut self) -> Result<Piece, ApiError> {
        loop {
            let App { phases, config, .. } = &*self.app;
            let event = tokio::select! {
                event = self.generation.next() => event,
                () = phases.ending.cancelled() => return Err(ApiError::shutting_down()),
                () = tokio::time::sleep_until(self.deadline) => {
                    return Err(ApiError::out_of_time(config.limits.request_time));
                }
            };
            match event {
                Some(Event::Started { .. }) => {}
                Some(Event::Token(token)) => return Ok(self.token(token)),
                Some(Event::Finished(finished)) => {
                    let reason = match finished.reason {
                        FinishReason::Stop => "stop",
                        FinishReason::Length => "length",
                        FinishReason::Cancelled => return Err(mobile_engine::Error::Closed.into()),
                    };
                    let held = finished.reason == FinishReason::Length || !finished.text.is_empty();
                    let settled = if held { std::mem::take(&mut self.unsettled) } else { Vec::new() };
                    let statistics = finished.statistics;
                    self.app.metrics.generated(&statistics);
                    let end = Some(End { reason, statistics });
                    return Ok(Piece { text: finished.text, token: None, settled, end });
                }
                Some(Event::Failed(error)) => return Err(error.into()),
                None => return Err(mobile_engine::Error::Closed.into()),
            }
        }
    }

    fn token(&mut self, token: Token) -> Piece {
        if !self.text.eos().contains(&token.id) {
            self.unsettled.push(token.clone());
        }
        let settled = if token.text.is_empty() { Vec::new() } else { std::mem::take(&mut self.unsettled) };
        Piece { text: token.text.clone(), token: Some(token), settled, end: None }
    }

    /// Waits for the end.
    pub(crate) async fn whole(mut self) -> Result<Whole, ApiError> {
        let (mut text, mut tokens, mut settled) = (String::new(), Vec::new(), Vec::new());
        loop {
            let piece = self.next().await?;
            text += &piece.text;
            tokens.extend(piece.token);
            settled.extend(piece.settled);
            if let Some(end) = piece.end {
                return Ok(Whole { text, tokens, settled, end });
            }
        }
    }
}

/// Waits for all of them.
pub(crate) async fn whole(answers: Vec<Answer>) -> Result<Vec<Whole>, ApiError> {
    futures_util::future::try_join_all(answers.into_iter().map(Answer::whole)).await
}

/// The pieces of all answers as they come, each with its answer's number. Ends behind the first error.
pub(crate) fn pieces(answers: Vec<Answer>) -> impl Stream<Item = Result<(usize, Piece), ApiError>> + Send + 'static {
    select_all(answers.into_iter().enumerate().map(|(number, answer)| {
        unfold(Some(answer), move |answer| async move {
            let mut answer = answer?;
            let piece = answer.next().await;
            let more = matches!(&piece, Ok(piece) if piece.end.is_none());
            Some((piece.map(|piece| (number, piece)), more.then_some(answer)))
        })
        .boxed()
    }))
}

/// How often a waiting stream shows that it is alive.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);
