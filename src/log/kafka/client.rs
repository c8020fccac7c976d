//! What all librdkafka clients share: creation, log lines, errors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::codes::of_code;
use crate::error::{Error, Result};

/// Gets librdkafka's log lines and the failures of single records.
#[derive(Clone, Default)]
pub struct Context {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    last_failure: Mutex<Option<String>>,
    /// The broker has refused the login, and nothing has gone well since.
    denied: Mutex<Option<String>>,
    /// No broker could be reached, and nobody has asked about it since.
    unreachable: AtomicBool,
    undelivered: Mutex<Option<Undelivered>>,
}

/// The first record of a transaction that could not be delivered.
#[derive(Clone, Debug)]
pub struct Undelivered {
    /// Its topic.
    pub topic: String,
    /// Bytes of key and value.
    pub size: usize,
    /// Why.
    pub code: Code,
}

impl Context {
    /// The last connection failure, as librdkafka words it.
    pub fn last_failure(&self) -> Option<String> {
        self.state.last_failure.lock().clone()
    }

    /// What the broker said when it refused the login, where it did last.
    pub fn denied(&self) -> Option<String> {
        self.state.denied.lock().clone()
    }

    /// Whether no broker could be reached at a time since the last call.
    pub fn take_unreachable(&self) -> bool {
        self.state.unreachable.swap(false, Ordering::Relaxed)
    }

    /// The broker has answered: it is not refused.
    pub fn answered(&self) {
        self.state.denied.lock().take();
    }

    /// Takes the first undelivered record since the last call.
    pub fn take_undelivered(&self) -> Option<Undelivered> {
        self.state.undelivered.lock().take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // "[thrd:host:port/bootstrap]: host:port/bootstrap: Connect to … failed: …": the last part is for people.
        let text = message.split_once("]: ").map_or(message, |(_, rest)| rest);
        if matches!(fac, "FAIL" | "ERROR" | "SSL") {
            let text = text.split_once(" (after ").map_or(text, |(before, _)| before);
            *self.state.last_failure.lock() = Some(text.to_owned());
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!("Kafka client: {fac}: {text}");
            }
            // A broker that is away is told of where it matters, not by every client on every attempt.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!("Kafka client: {fac}: {text}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!("Kafka client: {fac}: {text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        *self.state.last_failure.lock() = Some(reason.to_owned());
        if matches!(error.rdkafka_error_code(), Some(Code::Authentication | Code::SaslAuthenticationFailed)) {
            *self.state.denied.lock() = Some(reason.to_owned());
        }
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) {
            self.state.unreachable.store(true, Ordering::Relaxed);
        }
        tracing::info!("Kafka client: {error}: {reason}");
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let size = message.key_len() + message.payload_len();
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            // Purged records are the consequence of an abort, never its cause.
            if !matches!(code, Code::PurgeQueue | Code::PurgeInflight) {
                let topic = message.topic().to_owned();
                self.state.undelivered.lock().get_or_insert(Undelivered { topic, size, code });
            }
        }
    }
}

/// Makes a client.
///
/// # Errors
/// [`crate::Kind::Config`] with librdkafka's words on the setting it does not take.
pub fn create<T: FromClientConfigAndContext<Context>>(config: &ClientConfig, context: Context) -> Result<T> {
    T::from_config_and_context(config, context.clone()).map_err(|e| match e {
        KafkaError::ClientConfig(_, description, name, _) => {
            // The value may be a secret.
            Error::config(format!("Kafka client property {name} is not accepted")).because(description)
        }
        other => {
            let error = Error::config("cannot make a Kafka client").because(other);
            match context.last_failure() {
                Some(reason) => error.because(reason),
                None => error,
            }
        }
    })
}

/// An error of librdkafka.
pub fn kafka_error(what: &str, error: &KafkaError) -> Error {
    match error {
        KafkaError::Transaction(e) => of_code(what, e.code()).because(e.string()),
        other => match other.rdkafka_error_code() {
            Some(code) => of_code(what, code),
            None => Error::transient(what.to_owned()).because(other),
        },
    }
}
