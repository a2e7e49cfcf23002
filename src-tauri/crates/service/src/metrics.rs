//! What `/metrics` shows, in Prometheus' text format.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use mobile_engine::{CONFIDENCE_BINS, Statistics, Status};

/// Upper bounds, in seconds, of the buckets of durations.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// What the service counts itself. The engine's own counters are read when they are asked for, so that they cannot
/// disagree with `/health`.
pub(crate) struct Metrics(PrometheusRecorder);

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = recorder();
        with_local_recorder(&recorder, || {
            describe_counter!("mobile_http_responses_total", "Responses by route and status.");
            describe_histogram!("mobile_queue_seconds", "Time requests waited for their turn.");
            describe_histogram!("mobile_first_token_seconds", "Time from a request's turn to its first token.");
            describe_histogram!("mobile_generation_seconds", "Time from a request's turn to its last token.");
        });
        Self(recorder)
    }

    pub(crate) fn responded(&self, route: &str, status: u16) {
        with_local_recorder(&self.0, || {
            counter!("mobile_http_responses_total", "route" => route.to_owned(), "status" => status.to_string())
                .increment(1);
        });
    }

    pub(crate) fn generated(&self, statistics: &Statistics) {
        with_local_recorder(&self.0, || {
            histogram!("mobile_queue_seconds").record(statistics.queued_seconds);
            histogram!("mobile_first_token_seconds").record(statistics.prefill_seconds);
            histogram!("mobile_generation_seconds").record(statistics.elapsed_seconds);
        });
        // Until then every value is kept, also where nobody ever asks for them.
        self.0.handle().run_upkeep();
    }

    /// All of it; `engine` is the loaded model's name and status.
    pub(crate) fn render(&self, connections: usize, uptime: f64, engine: Option<(&str, Status)>) -> String {
        // Made anew each time: another model starts again from zero, which Prometheus knows how to read.
        let now = recorder();
        with_local_recorder(&now, || {
            describe_gauge!("mobile_connections", "Open connections.");
            gauge!("mobile_connections").set(connections as f64);
            describe_gauge!("mobile_uptime_seconds", "Time since the service started.");
            gauge!("mobile_uptime_seconds").set(uptime);
            describe_gauge!("mobile_model_ready", "1 when a model answers.");
            gauge!("mobile_model_ready").set(if engine.is_some() { 1.0 } else { 0.0 });
            if let Some((model, status)) = engine {
                of_engine(model, &status);
            }
        });
        self.0.handle().render() + &now.handle().render()
    }
}

fn recorder() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new();
    // Only an empty list of buckets is refused.
    builder.set_buckets(&SECONDS).unwrap_or_default().build_recorder()
}

fn of_engine(model: &str, status: &Status) {
    let labels = [("model", model.to_owned())];
    let totals = &status.totals;
    let cache = &totals.expert_cache;
    for (name, help, value) in [
        ("mobile_tokens_total", "Tokens generated.", totals.tokens_processed),
        ("mobile_important_tokens_total", "Tokens computed with all experts.", totals.important_tokens),
        ("mobile_unimportant_tokens_total", "Tokens that fewer experts decided.", totals.unimportant_tokens),
        ("mobile_fallbacks_total", "Tokens below gamma that were computed again.", totals.fallbacks),
        ("mobile_experts_computed_total", "Expert evaluations while decoding.", totals.experts_computed),
        ("mobile_experts_full_total", "Expert evaluations that all experts would take.", totals.experts_full),
        ("mobile_expert_cache_hits_total", "Experts wanted and found in memory.", cache.hits),
        ("mobile_expert_cache_misses_total", "Experts wanted and fetched.", cache.misses),
        ("mobile_expert_cache_prefetched_total", "Experts fetched for a fallback.", cache.fallback_prefetch.issued),
        ("mobile_expert_cache_guessed_total", "Experts fetched a layer ahead.", cache.look_ahead.issued),
        ("mobile_expert_cache_read_bytes_total", "Bytes of experts fetched.", cache.bytes_read),
    ] {
        describe_counter!(name, help);
        counter!(name, &labels).absolute(value);
    }
    describe_counter!("mobile_confidence_tokens_total", "Tokens by the confidence of their first pass.");
    for (bin, &count) in totals.confidence_histogram.iter().enumerate() {
        let from = format!("{:.2}", bin as f64 / CONFIDENCE_BINS as f64);
        counter!("mobile_confidence_tokens_total", "model" => model.to_owned(), "from" => from).absolute(count);
    }
    for (name, help, value) in [
        ("mobile_requests_running", "Requests being decoded.", status.running),
        ("mobile_requests_queued", "Requests waiting for a turn.", status.queued),
        ("mobile_memory_bytes", "Bytes MLX holds.", status.memory_bytes),
        ("mobile_peak_memory_bytes", "The most bytes MLX has held.", status.peak_memory_bytes),
        ("mobile_expert_memory_bytes", "Bytes of the experts in memory.", status.expert_memory_bytes),
    ] {
        describe_gauge!(name, help);
        gauge!(name, &labels).set(value as f64);
    }
}
