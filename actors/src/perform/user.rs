//! An account owes the claims on its name and address, and gives them back when it is refused.

use async_trait::async_trait;
use lmao_events::{
    claim,
    user::{Command, Effect, User, claim_of},
};

use super::{EffectContext, Hands, Perform, Performed, Sent, UNTIL_UNPARKED};

#[async_trait]
impl Perform<User> for Hands {
    async fn perform(&self, context: EffectContext, effect: Effect) -> Performed<User> {
        match effect {
            Effect::Claim { field, value, holder } => {
                let stream = claim_of(&self.keyed_ids, field, &value);
                match self.tell(stream, claim::Command::Claim { holder }, &context.meta).await {
                    Sent::Done => Performed::Record(Command::RecordClaim { effect: context.id, granted: true }),
                    Sent::Refused(_) => Performed::Record(Command::RecordClaim { effect: context.id, granted: false }),
                    Sent::Parked(_) => Performed::Later(UNTIL_UNPARKED),
                    Sent::Later(pause) => Performed::Later(pause),
                }
            }
            Effect::Release { field, value, holder } => {
                let stream = claim_of(&self.keyed_ids, field, &value);
                match self.tell(stream, claim::Command::Release { holder }, &context.meta).await {
                    Sent::Parked(_) => Performed::Later(UNTIL_UNPARKED),
                    Sent::Later(pause) => Performed::Later(pause),
                    Sent::Done | Sent::Refused(_) => Performed::Record(Command::RecordRelease { effect: context.id }),
                }
            }
        }
    }
}
