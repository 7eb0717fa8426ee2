//! InitProducerId: who an idempotent or transactional producer is.

use ottla_kafka_proto::ApiVersion;
use ottla_kafka_proto::messages::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};

use super::Answer;
use crate::kafka::{Peer, codes};

/// Gives an idempotent producer an id that was never given before.
pub(super) fn init(peer: &Peer, _version: ApiVersion, _request: InitProducerIdRequest) -> Answer {
    match peer.context.engine.new_producer() {
        Ok((producer_id, lsn)) => Answer::at(
            lsn,
            InitProducerIdResponse {
                producer_id: producer_id.0,
                producer_epoch: 0,
                ..Default::default()
            },
        ),
        Err(refused) => Answer::now(InitProducerIdResponse {
            error_code: codes::refused(refused),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        }),
    }
}
