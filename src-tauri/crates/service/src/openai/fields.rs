//! Fields of OpenAI's API that this service does not have.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Fields that would change the answer if they were honoured, and why they are not.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("audio", "this service answers with text only"),
    ("best_of", "use n and choose among the answers"),
    ("echo", "this service does not repeat the prompt"),
    ("frequency_penalty", "use repetition_penalty"),
    ("function_call", NO_TOOLS),
    ("functions", NO_TOOLS),
    ("logit_bias", "logits cannot be changed by request"),
    ("modalities", "this service answers with text only"),
    ("parallel_tool_calls", NO_TOOLS),
    ("prediction", "predicted answers are not used"),
    ("presence_penalty", "use repetition_penalty"),
    ("prompt_cache_retention", "how long beginnings of prompts are kept is the service's choice"),
    ("reasoning_effort", "the model does not reason by degrees"),
    ("service_tier", "there is one tier"),
    ("store", "answers are not stored"),
    ("suffix", "the model does not fill in the middle"),
    ("tool_choice", NO_TOOLS),
    ("tools", NO_TOOLS),
    ("verbosity", "ask for it in the prompt"),
    ("web_search_options", "this service does not search the web"),
];

const NO_TOOLS: &str = "this service does not call tools or functions; leave the field out";

/// Labels that a client may put on a request and that change nothing.
const LABELS: &[&str] = &["user", "metadata", "safety_identifier", "prompt_cache_key"];

/// Fields of a message, besides its role and content.
const IN_MESSAGES: &[(&str, &str)] = &[
    ("annotations", "this service reads text only"),
    ("audio", "this service reads text only"),
    ("function_call", NO_TOOLS),
    ("name", "chat templates have no names; say in the content who speaks"),
    ("refusal", "give the text of a refusal as content"),
    ("tool_call_id", NO_TOOLS),
    ("tool_calls", NO_TOOLS),
];

/// Takes out what asks for nothing, and refuses by name what asks for something this service cannot do.
pub(crate) fn refuse_unsupported(fields: &mut Map<String, Value>) -> Result<(), ApiError> {
    fields.retain(|name, _| !LABELS.contains(&name.as_str()));
    for (name, why) in UNSUPPORTED {
        match fields.remove(*name) {
            Some(value) if !asks_for_nothing(name, &value) => return Err(ApiError::unsupported(*name, why)),
            _ => {}
        }
    }
    let messages = fields.get_mut("messages").and_then(Value::as_array_mut);
    for (index, message) in messages.into_iter().flatten().filter_map(Value::as_object_mut).enumerate() {
        for (name, why) in IN_MESSAGES {
            match message.remove(*name) {
                Some(value) if !asks_for_nothing(name, &value) => {
                    return Err(ApiError::unsupported(format!("messages[{index}].{name}"), why));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a value is what holds anyway.
fn asks_for_nothing(name: &str, value: &Value) -> bool {
    let usual = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    };
    usual
        || match name {
            "best_of" => value == 1,
            "modalities" => value.as_array().is_some_and(|list| list.iter().all(|v| v == "text")),
            "parallel_tool_calls" => value.is_boolean(),
            "service_tier" => value == "auto" || value == "default",
            "tool_choice" => value == "none" || value == "auto",
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: Value) -> Result<(), ApiError> {
        let Value::Object(mut fields) = fields else { panic!("an object") };
        refuse_unsupported(&mut fields)
    }

    #[test]
    fn what_asks_for_nothing_passes() {
        let fields = serde_json::json!({
            "tools": [], "logit_bias": {}, "presence_penalty": 0.0, "store": false, "user": "u", "best_of": 1,
            "parallel_tool_calls": true, "modalities": ["text"], "suffix": null,
        });
        assert_eq!(check(fields), Ok(()));
    }

    #[test]
    fn what_asks_for_something_is_refused_by_name() {
        for (name, value) in [
            ("tools", serde_json::json!([{"type": "function"}])),
            ("presence_penalty", 0.5.into()),
            ("best_of", 2.into()),
            ("echo", true.into()),
        ] {
            let error = check(serde_json::json!({ name: value })).expect_err(name);
            assert_eq!(error, ApiError::unsupported(name, UNSUPPORTED.iter().find(|u| u.0 == name).expect("listed").1));
        }
    }
}
