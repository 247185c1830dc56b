//! `init` beside a volume on which nothing has ever run: a new pod's, or one that was lost.

use super::emptiness::heir_with_data;
use super::next_start::ask_others;
use super::{ALONE_FOR, ELECTED_WITHIN, in_dns, own_socket};
use crate::decide::plan::Plan;
use crate::decide::scene::Scene;
use crate::decide::start;
use crate::model::decision::Start;
use crate::model::kept_conf::DataOnVolume;
use crate::model::peers::DnsAnswer;
use crate::model::reason::ReasonCode;

/// A blank volume is a new pod's, or one that was lost. Where the others say that this pod's former node
/// owns slots, its replica would copy the emptiness of what starts here: it is waited for until that
/// replica has been elected. At a first start they wait as well, so that nobody is waited for by name; for a
/// while DNS is, and one answer where it names others.
pub(super) fn before_a_first_start(scene: &Scene<'_>, plan: &mut Plan) {
    let all_asked = ask_others(scene, None, plan);
    let held = start::held(scene).filter(|why| why.code == ReasonCode::OldIdentityOwnsSlots);
    // Without DNS nothing can be formed or joined either.
    let answered = matches!(scene.seen.dns.answer, DnsAnswer::Answered);
    let why = match held {
        Some(why) => why.message,
        None if !answered => {
            "DNS names nobody who could say whether this pod had another volume".into()
        }
        None if !all_asked || nobody_has_told(scene) => {
            "asking whether this pod had another volume".to_owned()
        }
        None => return plan.memory_mut().held_since = None,
    };
    let since = *plan.memory_mut().held_since.get_or_insert(scene.seen.now);
    if scene.seen.now - since < ELECTED_WITHIN {
        plan.start(Start::Wait(why));
    } else if let Some(name) = heir_with_data(scene) {
        let what = start::what_is_gone(scene);
        let todo = match scene.seen.kept.data {
            DataOnVolume::Some => "decide which of the two has the newer data",
            _ => "order CLUSTER FAILOVER TAKEOVER there, or it may copy nothing from here",
        };
        plan.start(Start::Hold(format!(
            "{what}; {name} has the data of this pod's former node and has not been elected: a person must {todo}"
        )));
    } else if start::data_was_heard_of(scene) {
        plan.start(Start::Wait(why));
    }
}

/// Whether somebody else is in DNS, and nobody has answered yet: one lost question is no answer.
fn nobody_has_told(scene: &Scene<'_>) -> bool {
    let since = scene.memory.held_since.unwrap_or(scene.seen.now);
    let others = in_dns(scene).any(|socket| socket != own_socket(scene));
    others && scene.memory.told.is_empty() && scene.seen.now - since < ALONE_FOR
}
