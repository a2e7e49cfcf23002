//! The answers of both OpenAI routes: what surrounds the choices, in one piece or in the chunks of a stream.

use mobile_engine::Engine;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Head, Usage, Wanted};
use crate::answer::{Piece, Whole};
use crate::events::Writer;

/// The answers; also one chunk of a stream of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Response<C> {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
    system_fingerprint: String,
    choices: Vec<C>,
    /// In a stream absent unless asked for; then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    usage: Option<Option<Usage>>,
}

/// How a route writes its choices.
pub(crate) trait Choices: Send + 'static {
    /// What its ids begin with.
    const PREFIX: &str;
    /// What it calls its answers, and the chunks of a stream.
    const OBJECTS: [&str; 2];
    /// One whole answer.
    type Whole: Serialize;
    /// A part of one, in a stream.
    type Delta: Serialize;

    fn whole(head: &Head, index: usize, whole: Whole) -> Self::Whole;

    /// What answer `index` begins with.
    fn open(_index: usize) -> Option<Self::Delta> {
        None
    }

    /// What there is to say of one piece of answer `index`, a chunk for each.
    fn piece(&mut self, head: &Head, index: usize, piece: Piece) -> Vec<Self::Delta>;
}

/// Writes the answers of a route.
pub(crate) struct Answers<C> {
    head: Head,
    choices: C,
}

impl<C: Choices> Answers<C> {
    pub(crate) fn new(model: String, engine: &Engine, wanted: Wanted, choices: C) -> Self {
        Self { head: Head::new(C::PREFIX, model, engine, wanted), choices }
    }

    fn chunk(&self, choices: Vec<C::Delta>, usage: Option<Usage>) -> Response<C::Delta> {
        self.head.response(C::OBJECTS[1], choices, self.head.wanted.usage.then_some(usage))
    }
}

impl Head {
    fn response<C>(&self, object: &'static str, choices: Vec<C>, usage: Option<Option<Usage>>) -> Response<C> {
        Response {
            id: self.id.clone(),
            object,
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: format!("mobile-{}", env!("CARGO_PKG_VERSION")),
            choices,
            usage,
        }
    }
}

impl<C: Choices> Writer for Answers<C> {
    type Response = Response<C::Whole>;
    type Frame = Response<C::Delta>;

    fn whole(mut self, answers: Vec<Whole>) -> Self::Response {
        let mut choices = Vec::with_capacity(answers.len());
        for (index, whole) in answers.into_iter().enumerate() {
            self.head.count(index, &whole.end.statistics);
            choices.push(C::whole(&self.head, index, whole));
        }
        self.head.response(C::OBJECTS[0], choices, Some(Some(self.head.usage.clone())))
    }

    fn open(&mut self) -> Vec<Self::Frame> {
        (0..self.head.wanted.n).filter_map(C::open).map(|delta| self.chunk(vec![delta], None)).collect()
    }

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Self::Frame> {
        if let Some(end) = &piece.end {
            self.head.count(index, &end.statistics);
        }
        let deltas = self.choices.piece(&self.head, index, piece);
        deltas.into_iter().map(|delta| self.chunk(vec![delta], None)).collect()
    }

    fn close(&mut self) -> Vec<Self::Frame> {
        if self.head.wanted.usage { vec![self.chunk(Vec::new(), Some(self.head.usage.clone()))] } else { Vec::new() }
    }
}
