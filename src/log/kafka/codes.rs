//! What a Kafka error code means for whoever meets it: one table, by librdkafka's names of Kafka's error codes
//! (Kafka's protocol guide, "Error Codes"; the negative ones are librdkafka's own, rdkafka.h).

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::error::{Error, Kind};

use self::Code as C;
use self::Kind::{Config, Data, Fenced, Refused, Transient};

const ACL: &str = "grant the Kafka user this privilege (kafka-acls), or use another user";
const LOGIN: &str = "check sasl.mechanism, and user and password in sasl.jaas.config";
const TWO: &str = "only one process may write as this connector or pipeline: stop the other one";
const BROKER: &str = "upgrade the brokers: they are too old for this (transactions need Kafka 0.11 or later)";
const DISK: &str = "look at the disks of the brokers (log.dirs): the broker cannot write";
const REPLICAS: &str = "fewer replicas are in sync than min.insync.replicas asks for: bring the brokers back, or lower it for the topic";

/// Codes that are listed count as they say; all others may pass by themselves and are tried again: a code that a
/// newer broker brings stops nobody for good, and is shown while it lasts.
const TABLE: &[(Code, Kind, Option<&str>)] = &[
    // Somebody else writes in our name.
    (C::Fenced, Fenced, Some(TWO)),
    (C::ProducerFenced, Fenced, Some(TWO)),
    (C::InvalidProducerEpoch, Fenced, Some(TWO)),
    (C::TransactionCoordinatorFenced, Fenced, Some(TWO)),
    // Refused until an administrator does something.
    (C::TopicAuthorizationFailed, Refused, Some(ACL)),
    (C::GroupAuthorizationFailed, Refused, Some(ACL)),
    (C::ClusterAuthorizationFailed, Refused, Some(ACL)),
    (C::TransactionalIdAuthorizationFailed, Refused, Some(ACL)),
    (C::DelegationTokenAuthorizationFailed, Refused, Some(ACL)),
    (C::SaslAuthenticationFailed, Refused, Some(LOGIN)),
    (C::Authentication, Refused, Some(LOGIN)),
    (C::UnsupportedSASLMechanism, Refused, Some(LOGIN)),
    (C::IllegalSASLState, Refused, Some(LOGIN)),
    (C::SecurityDisabled, Refused, Some("the broker has no authorizer (authorizer.class.name)")),
    (C::UnknownTopicOrPartition, Refused, None),
    (C::UnknownTopic, Refused, None),
    (C::UnknownPartition, Refused, None),
    (C::UnknownTopicId, Refused, None),
    (C::TopicDeletionDisabled, Refused, Some("set delete.topic.enable=true on the brokers")),
    (C::UnsupportedVersion, Refused, Some(BROKER)),
    (C::UnsupportedForMessageFormat, Refused, Some(BROKER)),
    (C::UnsupportedFeature, Refused, Some(BROKER)),
    (C::UnsupportedCompressionType, Refused, Some("choose another compression.type")),
    // Wrong settings.
    (C::InvalidTopic, Config, Some("a topic's name holds letters, digits, '.', '_' and '-', 249 at most")),
    (C::InvalidPartitions, Config, Some("ask for at least one partition")),
    (C::InvalidReplicationFactor, Config, Some("ask for no more replicas than there are brokers")),
    (C::InvalidReplicaAssignment, Config, None),
    (C::InvalidConfig, Config, Some("check the topic's properties (topic.creation.*)")),
    (
        C::PolicyViolation,
        Config,
        Some("the brokers' create.topic.policy refuses such a topic: ask their operator"),
    ),
    (C::InvalidRequest, Config, None),
    (C::InvalidRequiredAcks, Config, None),
    (
        C::InvalidTransactionTimeout,
        Config,
        Some("set transaction.timeout.ms to no more than the brokers' transaction.max.timeout.ms"),
    ),
    (C::InvalidArgument, Config, None),
    // Records that do not fit.
    (
        C::MessageSizeTooLarge,
        Data,
        Some("raise max.message.bytes of the topic, and message.max.bytes of the brokers"),
    ),
    (C::MessageBatchTooLarge, Data, Some("raise segment.bytes of the topic")),
    (C::InvalidRecord, Data, Some("a compacted topic takes no record without a key")),
    (C::InvalidTimestamp, Data, Some("raise message.timestamp.before.max.ms of the topic")),
    (C::OffsetOutOfRange, Data, None),
    (C::AutoOffsetReset, Data, None),
    (C::LogTruncation, Data, None),
    // These pass, and what would help is known.
    (C::NotEnoughReplicas, Transient, Some(REPLICAS)),
    (C::NotEnoughReplicasAfterAppend, Transient, Some(REPLICAS)),
    (C::KafkaStorageError, Transient, Some(DISK)),
    (C::ThrottlingQuotaExceeded, Transient, Some("the user's quota is used up (kafka-configs)")),
];

/// The class of a code, and what to do about it.
pub fn class(code: Code) -> (Kind, Option<&'static str>) {
    let found = TABLE.iter().find(|(listed, _, _)| *listed == code);
    found.map_or((Transient, None), |(_, kind, next)| (*kind, *next))
}

/// An error code of librdkafka or the broker: `what` says what was being done.
pub fn of_code(what: &str, code: Code) -> Error {
    let (kind, next) = class(code);
    let error = Error::new(kind, what.to_owned()).because(code);
    match next {
        Some(next) => error.next(next),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_listed_once() {
        for (n, (code, _, _)) in TABLE.iter().enumerate() {
            assert!(TABLE.iter().skip(n + 1).all(|(other, _, _)| other != code), "{code:?}");
        }
    }

    /// As Kafka's own producer, consumer and admin client class them (`RetriableException` or not).
    #[test]
    fn what_may_pass_is_told_from_what_cannot() {
        let kind = |code| class(code).0;
        for code in [
            C::BrokerTransportFailure,
            C::AllBrokersDown,
            C::Resolve,
            C::OperationTimedOut,
            C::MessageTimedOut,
            C::TimedOutQueue,
            C::QueueFull,
            C::LeaderNotAvailable,
            C::NotLeaderForPartition,
            C::RequestTimedOut,
            C::BrokerNotAvailable,
            C::ReplicaNotAvailable,
            C::NetworkException,
            C::CoordinatorLoadInProgress,
            C::CoordinatorNotAvailable,
            C::NotCoordinator,
            C::NotController,
            C::NotEnoughReplicas,
            C::NotEnoughReplicasAfterAppend,
            C::KafkaStorageError,
            C::ConcurrentTransactions,
            C::FencedLeaderEpoch,
            C::UnknownLeaderEpoch,
            C::OffsetNotAvailable,
            C::EligibleLeadersNotAvailable,
            C::ThrottlingQuotaExceeded,
            C::RebootstrapRequired,
            // The writer is made anew: its sequence numbers are lost, nothing else.
            C::OutOfOrderSequenceNumber,
            C::UnknownProducerId,
            C::InvalidProducerIdMapping,
            C::Unknown,
        ] {
            assert_eq!(kind(code), Transient, "{code:?}");
        }
        for code in [C::Fenced, C::ProducerFenced, C::InvalidProducerEpoch] {
            assert_eq!(kind(code), Fenced, "{code:?}");
        }
        for (code, word) in [
            (C::TopicAuthorizationFailed, "kafka-acls"),
            (C::TransactionalIdAuthorizationFailed, "kafka-acls"),
            (C::ClusterAuthorizationFailed, "kafka-acls"),
            (C::SaslAuthenticationFailed, "password"),
            (C::Authentication, "password"),
            (C::UnsupportedVersion, "upgrade"),
        ] {
            let error = of_code("x", code);
            assert_eq!(error.kind(), Refused, "{code:?}");
            assert!(error.next_step().is_some_and(|next| next.contains(word)), "{code:?}");
        }
        for code in
            [C::InvalidTopic, C::PolicyViolation, C::InvalidReplicationFactor, C::InvalidTransactionTimeout]
        {
            assert_eq!(kind(code), Config, "{code:?}");
        }
        for code in [C::MessageSizeTooLarge, C::InvalidRecord, C::OffsetOutOfRange] {
            assert_eq!(kind(code), Data, "{code:?}");
        }
    }
}
