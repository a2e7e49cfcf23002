//! Answers as responses: in one piece, or as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{StreamExt as _, unfold};
use mobile_engine::{Engine, Request};
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::{self, Answer, KEEP_ALIVE, Piece, Whole, pieces};
use crate::app::Shared;
use crate::error::ApiError;

/// One event of a stream.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(crate) struct ServerSentEvent {
    /// A part of the answer as JSON; an `error` where the answer breaks off; at the end `[DONE]`.
    data: String,
}

/// How a route writes its answers, whole and piece by piece.
pub(crate) trait Writer: Send + 'static {
    /// The response with whole answers.
    type Response: Serialize;
    /// What one event carries.
    type Frame: Serialize;

    /// All answers.
    fn whole(self, answers: Vec<Whole>) -> Self::Response;

    /// Before the first piece.
    fn open(&mut self) -> Vec<Self::Frame> {
        Vec::new()
    }

    /// For one piece of answer `number`.
    fn piece(&mut self, number: usize, piece: Piece) -> Vec<Self::Frame>;

    /// Behind the last piece.
    fn close(&mut self) -> Vec<Self::Frame> {
        Vec::new()
    }
}

/// Queues the requests, and writes the response to them.
pub(crate) async fn respond<W: Writer>(
    app: &Shared,
    engine: Engine,
    requests: Vec<Request>,
    stream: bool,
    writer: W,
) -> Result<Response, ApiError> {
    let answers = answer::submit(app, &engine, requests)?;
    // A model that is taken out meanwhile is not to stay for the answer's sake. The last handle waits for the engine's end,
    // which is nothing for a thread that others' requests need.
    drop(tokio::task::spawn_blocking(move || drop(engine)));
    if stream {
        return Ok(streamed(answers, writer));
    }
    let whole = answer::whole(answers).await?;
    Ok(axum::Json(writer.whole(whole)).into_response())
}

/// The stream of a response; when the client hangs up it is dropped, and the answers with it.
fn streamed<W: Writer>(answers: Vec<Answer>, mut writer: W) -> Response {
    let waiting: VecDeque<Event> = writer.open().iter().map(event).collect();
    let state = (pieces(answers).boxed(), writer, waiting, false);
    let events = unfold(state, |(mut pieces, mut writer, mut waiting, mut over)| async move {
        loop {
            if let Some(event) = waiting.pop_front() {
                return Some((Ok::<_, Infallible>(event), (pieces, writer, waiting, over)));
            }
            if over {
                return None;
            }
            match pieces.next().await {
                Some(Ok((number, piece))) => waiting.extend(writer.piece(number, piece).iter().map(event)),
                Some(Err(error)) => {
                    over = true;
                    waiting.push_back(event(&error.body()));
                }
                None => {
                    over = true;
                    waiting.extend(writer.close().iter().map(event));
                    waiting.push_back(Event::default().data("[DONE]"));
                }
            }
        }
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies would otherwise collect the stream and hand it on at its end.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

fn event(frame: &impl Serialize) -> Event {
    Event::default().data(serde_json::to_string(frame).unwrap_or_default())
}
