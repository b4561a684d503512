//! A session owes its oldest message an answer: it has a workflow started, and the workflow brings the outcome.

use async_trait::async_trait;
use lmao_events::{
    Category, Failure, StreamId,
    session::{self, Session},
    workflow,
};
use uuid::Uuid;

use super::{EffectContext, Hands, Perform, Performed, Sent};

#[async_trait]
impl Perform<Session> for Hands {
    async fn perform(&self, context: EffectContext, effect: session::Effect) -> Performed<Session> {
        let message_id = effect.message_id;
        let started = workflow::Started {
            owner: effect.owner,
            session_id: context.stream.id,
            message_id,
            asked_at: context.id.version,
            query: effect.content,
            context: effect.context,
        };
        let stream = StreamId::new(Category::Workflow, effect.workflow_id);
        match self.tell(stream, workflow::Command::Start(started), &context.meta).await {
            Sent::Done => Performed::Handed,
            Sent::Later(pause) => Performed::Later(pause),
            Sent::Parked(reason) => Performed::Record(workflow_parked(message_id, &reason)),
            Sent::Refused(reason) => Performed::Record(session::Command::FailReply {
                message_id,
                failure: Failure::lasting("workflow_refused", format!("the message cannot be answered: {reason}")),
                millis: 0,
            }),
        }
    }
}

/// What a session is told of a message whose workflow is set aside.
pub(super) fn workflow_parked(message_id: Uuid, reason: &str) -> session::Command {
    let message =
        format!("answering failed again and again and was set aside; ask again, or tell an operator: {reason}");
    session::Command::FailReply { message_id, failure: Failure::lasting("workflow_parked", message), millis: 0 }
}
