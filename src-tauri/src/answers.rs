//! The answers that are being written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobile_engine::{Engine, Event, Generation, Policy, Remote, Request};
use tauri::ipc::Channel;

use crate::contract::{ChatEvent, TokenRecord};
use crate::error::{CommandError, Result};

/// Running answers by conversation. Clones are the same answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<HashMap<String, Remote>>>);

impl Answers {
    /// Starts an answer and sends its events to `channel` until it ends.
    pub(crate) fn start(
        &self,
        id: String,
        engine: &Engine,
        request: Request,
        channel: Channel<ChatEvent>,
    ) -> Result<()> {
        let mut running = self.running();
        if running.contains_key(&id) {
            return Err(CommandError::new("busy", "this conversation is being answered; stop that first"));
        }
        let generation = engine.submit(request)?;
        running.insert(id.clone(), generation.remote());
        drop(running);
        let answers = self.clone();
        tauri::async_runtime::spawn(async move {
            forward(generation, &channel).await;
            answers.running().remove(&id);
        });
        Ok(())
    }

    /// Ends an answer after the token it is at. One that has ended already is no error.
    pub(crate) fn stop(&self, id: &str) {
        if let Some(remote) = self.running().get(id) {
            remote.cancel();
        }
    }

    pub(crate) fn stop_all(&self) {
        self.running().values().for_each(Remote::cancel);
    }

    pub(crate) fn none_running(&self) -> bool {
        self.running().is_empty()
    }

    /// Changes the policy of a running answer from its next token on.
    pub(crate) fn set_policy(&self, id: &str, policy: Policy) -> Result<()> {
        match self.running().get(id) {
            Some(remote) => Ok(remote.set_policy(policy)?),
            None => Ok(()),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Remote>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn forward(mut generation: Generation, channel: &Channel<ChatEvent>) {
    let mut last = None;
    while let Some(event) = generation.next().await {
        let sent = match event {
            Event::Started { prompt_tokens, cached_tokens } => {
                channel.send(ChatEvent::Started { prompt_tokens, cached_tokens })
            }
            Event::Token(token) => {
                let (id, record) = (token.id, TokenRecord::from(token));
                last = Some((id, record.clone()));
                channel.send(ChatEvent::Token { id, record })
            }
            Event::Finished(finished) => {
                // Text that waited for the rest of a character or of a stop string belongs to the last token.
                if let Some((id, record)) = last.take().filter(|_| !finished.text.is_empty()) {
                    let record = TokenRecord { text: finished.text, ms: 0.0, ..record };
                    let _ = channel.send(ChatEvent::Token { id, record });
                }
                let stats = Box::new(finished.statistics.into());
                channel.send(ChatEvent::Finished { reason: finished.reason.into(), stats })
            }
            Event::Failed(error) => {
                let CommandError { code, message } = error.into();
                tracing::error!("an answer failed: {message}");
                channel.send(ChatEvent::Failed { code, message })
            }
        };
        if let Err(error) = sent {
            tracing::warn!("the window of an answer is gone: {error}");
            return;
        }
    }
}
