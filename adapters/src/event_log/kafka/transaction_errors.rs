//! The errors of transactions as the errors of exports: taken over, to be tried again, or of no use to try again.

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::config::LibraryLogContext;
use super::{PART_NAME, store_error};
use crate::StoreError;
use crate::export_topics::ExportError;

/// Turns an error of a transaction into the caller's error. Once a producer has a fatal error, all its errors have that
/// cause.
pub(super) fn export_error(
    producer: &BaseProducer<LibraryLogContext>,
    doing: &str,
    error: &KafkaError,
) -> ExportError {
    let fatal = producer.client().fatal_error().map(|(code, _)| code);
    error_with_cause(doing, error, fatal)
}

/// Turns an error of a transaction into the caller's error, for a producer with the fatal error `fatal`, if it has one.
///
/// Errors that the client library calls retriable, or for which it wants the transaction aborted, are transient: the
/// caller begins again with a new producer, which ends the transaction.
fn error_with_cause(doing: &str, error: &KafkaError, fatal: Option<RDKafkaErrorCode>) -> ExportError {
    use RDKafkaErrorCode::{
        ClusterAuthorizationFailed, Fenced, InvalidProducerEpoch, InvalidTransactionTimeout, ProducerFenced,
        TransactionalIdAuthorizationFailed, UnsupportedFeature,
    };
    let has = |is_meant: fn(RDKafkaErrorCode) -> bool| {
        error.rdkafka_error_code().into_iter().chain(fatal).any(is_meant)
    };
    if has(|code| matches!(code, Fenced | InvalidProducerEpoch | ProducerFenced)) {
        return ExportError::TakenOver;
    }
    // A missing permission, brokers whose transaction.max.timeout.ms is shorter than our transactions, and brokers
    // without transactions. The library also says that a feature is unsupported while it knows no broker's release:
    // then the error is not fatal.
    let is_lasting = has(|code| {
        matches!(
            code,
            ClusterAuthorizationFailed | InvalidTransactionTimeout | TransactionalIdAuthorizationFailed
        )
    });
    if is_lasting || fatal == Some(UnsupportedFeature) {
        return StoreError::unusable(PART_NAME, format!("{doing}: {error}")).into();
    }
    store_error(doing, error).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::super::config::KafkaConfig;
    use super::super::export::{BEGIN_TIMEOUT, transactional_producer};
    use super::*;

    #[test]
    fn each_error_is_taken_over_transient_or_lasting() {
        use RDKafkaErrorCode as Code;
        let kind = |code, fatal| match error_with_cause("testing", &KafkaError::Global(code), fatal) {
            ExportError::TakenOver => "taken over",
            ExportError::Store(error) if error.is_transient() => "transient",
            ExportError::Store(_) => "lasting",
        };
        for code in [
            Code::BrokerTransportFailure,
            Code::ConcurrentTransactions,
            Code::CoordinatorLoadInProgress,
            Code::CoordinatorNotAvailable,
            Code::Inconsistent,
            Code::InvalidProducerIdMapping,
            Code::InvalidTransactionalState,
            Code::NotCoordinator,
            Code::OperationTimedOut,
            Code::UnsupportedFeature,
        ] {
            assert_eq!(kind(code, None), "transient", "{code:?}");
        }
        assert_eq!(
            kind(Code::Fatal, Some(Code::InvalidTransactionalState)),
            "transient",
            "a new producer can"
        );
        for code in [Code::Fenced, Code::InvalidProducerEpoch, Code::ProducerFenced] {
            assert_eq!(
                (kind(code, None), kind(Code::Fatal, Some(code))),
                ("taken over", "taken over"),
                "{code:?}"
            );
        }
        for code in [
            Code::ClusterAuthorizationFailed,
            Code::InvalidTransactionTimeout,
            Code::TransactionalIdAuthorizationFailed,
        ] {
            assert_eq!((kind(code, None), kind(Code::Fatal, Some(code))), ("lasting", "lasting"), "{code:?}");
        }
        for code in [Code::GroupAuthorizationFailed, Code::TopicAuthorizationFailed] {
            assert_eq!(kind(code, None), "lasting", "{code:?}");
        }
        assert_eq!(kind(Code::UnsupportedFeature, Some(Code::UnsupportedFeature)), "lasting");
    }

    /// Lets a producer begin before brokers that answer with `errors` first. Uses the library's own mock cluster, for
    /// errors that a real one does not make on demand.
    fn begin_before_errors(errors: &[RDKafkaRespErr], limit: Duration) -> Result<(), ExportError> {
        let cluster = MockCluster::new(1).unwrap();
        cluster.request_errors(RDKafkaApiKey::InitProducerId, errors);
        let producer = transactional_producer(&KafkaConfig::new(cluster.bootstrap_servers()), "topic", "0")?;
        producer.init_transactions(limit).map_err(|error| export_error(&producer, "beginning", &error))
    }

    #[test]
    fn the_library_begins_again_after_retriable_errors_by_itself() {
        use RDKafkaRespErr::{
            RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        };
        let errors = [
            RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
            RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        ];
        begin_before_errors(&errors, BEGIN_TIMEOUT).unwrap();
        // More of them than fit into the time.
        let error = begin_before_errors(&[errors[0]; 100], Duration::from_secs(1)).unwrap_err();
        assert!(matches!(&error, ExportError::Store(error) if error.is_transient()), "{error:?}");
    }

    #[test]
    fn a_fatal_error_of_a_beginning_producer_has_its_cause() {
        let begin = |error| begin_before_errors(&[error], BEGIN_TIMEOUT).unwrap_err();
        for lasting in [
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ] {
            let error = begin(lasting);
            assert!(matches!(&error, ExportError::Store(error) if !error.is_transient()), "{error:?}");
        }
        let fenced = begin(RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED);
        assert!(matches!(fenced, ExportError::TakenOver), "{fenced:?}");
    }
}
