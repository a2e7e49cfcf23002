//! Conversations and the answers in them.

use mobile_engine::{Sampling, Statistics, Token};
use serde::{Deserialize, Serialize};

use super::{Policy, PolicyKind};
use crate::error::CommandError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct PromptMessage {
    pub(crate) role: Role,
    pub(crate) content: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ChatSettings {
    pub(crate) system: String,
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    pub(crate) max_tokens: usize,
    /// `null` draws a new seed for every answer.
    pub(crate) seed: Option<u64>,
}

impl Default for ChatSettings {
    fn default() -> Self {
        Self { system: String::new(), temperature: 0.7, top_p: 0.95, max_tokens: 2048, seed: None }
    }
}

impl From<&ChatSettings> for Sampling {
    fn from(settings: &ChatSettings) -> Self {
        Self { temperature: settings.temperature, top_p: settings.top_p, seed: settings.seed, ..Self::default() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    pub(crate) elapsed_seconds: f64,
    pub(crate) tokens_generated: usize,
    pub(crate) tokens_per_second: f64,
    pub(crate) prompt_tokens: usize,
    pub(crate) prefill_seconds: f64,
    pub(crate) important_tokens: u64,
    pub(crate) unimportant_tokens: u64,
    pub(crate) fallbacks: u64,
    pub(crate) experts_computed: u64,
    /// What K experts for every token would have computed.
    pub(crate) experts_full: u64,
    pub(crate) cache_hits: u64,
    pub(crate) peak_memory_bytes: usize,
    pub(crate) device: String,
    pub(crate) model: String,
    pub(crate) policy: PolicyKind,
    /// What `auto` chose, and why; `null` under every other policy.
    pub(crate) chosen: Option<PolicyKind>,
    pub(crate) why: Option<String>,
}

impl From<Statistics> for Stats {
    fn from(s: Statistics) -> Self {
        let policy = PolicyKind::named(s.policy).unwrap_or(PolicyKind::Auto);
        let (chosen, why) = s.auto.map_or((None, None), |auto| (PolicyKind::named(auto.chosen), Some(auto.why)));
        Self {
            elapsed_seconds: s.elapsed_seconds,
            tokens_generated: s.tokens_generated,
            tokens_per_second: s.tokens_per_second,
            prompt_tokens: s.prompt_tokens,
            prefill_seconds: s.prefill_seconds,
            important_tokens: s.counters.important_tokens,
            unimportant_tokens: s.counters.unimportant_tokens,
            fallbacks: s.counters.fallbacks,
            experts_computed: s.counters.experts_computed,
            experts_full: s.counters.experts_full,
            cache_hits: s.counters.expert_cache.hits,
            peak_memory_bytes: s.peak_memory_bytes,
            device: s.device.to_owned(),
            model: s.model,
            policy,
            chosen,
            why,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decision {
    Little,
    Big,
    Fallback,
}

impl From<mobile_engine::Decision> for Decision {
    fn from(decision: mobile_engine::Decision) -> Self {
        match decision {
            mobile_engine::Decision::Little => Self::Little,
            mobile_engine::Decision::Big => Self::Big,
            mobile_engine::Decision::Fallback => Self::Fallback,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct TokenRecord {
    pub(crate) text: String,
    pub(crate) decision: Decision,
    /// The little pass's highest probability; `null` where there was no little pass.
    pub(crate) confidence: Option<f32>,
    pub(crate) ms: f64,
}

impl From<Token> for TokenRecord {
    fn from(token: Token) -> Self {
        let had_little_pass = token.decision != mobile_engine::Decision::Big;
        Self {
            text: token.text,
            decision: token.decision.into(),
            confidence: had_little_pass.then_some(token.confidence),
            ms: token.ms,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum FinishReason {
    Stop,
    Length,
    Cancelled,
}

impl From<mobile_engine::FinishReason> for FinishReason {
    fn from(reason: mobile_engine::FinishReason) -> Self {
        match reason {
            mobile_engine::FinishReason::Stop => Self::Stop,
            mobile_engine::FinishReason::Length => Self::Length,
            mobile_engine::FinishReason::Cancelled => Self::Cancelled,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum ChatEvent {
    Started {
        prompt_tokens: usize,
        cached_tokens: usize,
    },
    Token {
        id: u32,
        #[serde(flatten)]
        record: TokenRecord,
    },
    Finished {
        reason: FinishReason,
        stats: Box<Stats>,
    },
    Failed {
        code: String,
        message: String,
    },
}

/// Why a kept answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeptReason {
    Stop,
    Length,
    Cancelled,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) content: String,
    pub(crate) tokens: Option<Vec<TokenRecord>>,
    pub(crate) stats: Option<Stats>,
    pub(crate) reason: Option<KeptReason>,
    pub(crate) error: Option<CommandError>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) title: String,
    /// Milliseconds since 1970, as are all times.
    pub(crate) created_at: u64,
    pub(crate) updated_at: u64,
    pub(crate) messages: Vec<Message>,
    pub(crate) settings: ChatSettings,
    pub(crate) policy: Policy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConversationSummary {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) updated_at: u64,
    /// Where a search matched.
    pub(crate) excerpt: Option<String>,
}
