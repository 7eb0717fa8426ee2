//! InitProducerId: who an idempotent or transactional producer is.

use ottla_engine::Lsn;
use ottla_engine::txn::coordinator::InitRequest;
use ottla_kafka_proto::messages::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};
use ottla_kafka_proto::{ApiVersion, ErrorCode, Str};

use super::Answer;
use super::txns::identity;
use crate::kafka::{Peer, codes};

/// Gives an idempotent producer an id that was never given before; makes a transactional one the
/// newest of its name, which fences the older ones.
pub(super) fn init(peer: &Peer, version: ApiVersion, request: InitProducerIdRequest) -> Answer {
    if let Some(id) = &request.transactional_id {
        return transactional(peer, version, id, &request);
    }
    match peer.context.engine.new_producer() {
        Ok((producer_id, lsn)) => Answer::at(
            lsn,
            InitProducerIdResponse {
                producer_id: producer_id.0,
                producer_epoch: 0,
                ..Default::default()
            },
        ),
        Err(refused) => Answer::now(failed(codes::txn_refused(refused))),
    }
}

fn transactional(
    peer: &Peer,
    version: ApiVersion,
    id: &Str,
    request: &InitProducerIdRequest,
) -> Answer {
    let (producer, epoch) = (request.producer_id, request.producer_epoch);
    if (producer < 0) != (epoch < 0) {
        return Answer::now(failed(ErrorCode::INVALID_REQUEST));
    }
    let init = InitRequest {
        id: Some(id.as_str().into()),
        timeout_ms: request.transaction_timeout_ms,
        expected: (version.0 >= 3 && producer >= 0).then(|| identity(producer, epoch)),
    };
    let (outcome, lsn) = match peer.context.engine.init_transactions(init) {
        Ok(decided) => {
            (decided.answer.map_err(|error| codes::txn_init(error, version)), decided.lsn)
        }
        Err(refused) => (Err(codes::txn_refused(refused)), Lsn::ZERO),
    };
    let response = match outcome {
        Ok(who) => InitProducerIdResponse {
            producer_id: who.producer.0,
            producer_epoch: who.epoch.0,
            ..Default::default()
        },
        Err(code) => failed(code),
    };
    Answer::at(lsn, response)
}

fn failed(error_code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code, producer_id: -1, producer_epoch: -1, ..Default::default() }
}
