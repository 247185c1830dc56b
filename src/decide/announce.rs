//! Every node announces its pod's own address and names. Without it a node whose address changed
//! keeps showing the old one in its own table, and sends clients there.

use super::guard;
use super::plan::Plan;
use super::scene::Scene;
use crate::model::decision::Action;
use crate::model::observation::OwnRedis;
use std::time::Duration;

/// Redis may refuse it (ACL): not more often than this.
const GAP: Duration = Duration::from_secs(5);

/// Sets what differs, in one round. CONFIG works while Redis is loading.
pub fn rule(scene: &Scene<'_>, plan: &mut Plan) {
    if guard::foreign_in_table(scene).is_some() {
        return;
    }
    let (server, config) = match &scene.seen.own {
        OwnRedis::Up(own) => (&own.server, &own.config),
        OwnRedis::Loading(server, config) => (server, config),
        OwnRedis::Silent(_) => return,
    };
    let Some(config) = config else { return };
    let policy = scene.policy;
    let wanted = [
        (
            "cluster-announce-ip",
            &config.announce_ip,
            policy.pod_ip.to_string(),
        ),
        (
            "cluster-announce-hostname",
            &config.announce_hostname,
            policy.hostname.clone(),
        ),
        (
            "cluster-announce-human-nodename",
            &config.announce_nodename,
            policy.me.to_string(),
        ),
    ];
    for (name, present, value) in wanted {
        // `None`: a server that does not know the name.
        let Some(present) = present else { continue };
        if *present != value {
            let evidence = format!("it announces {present:?}");
            // A restarted Redis has lost what was set: it is told at once.
            let key = format!("announce {name} {}", server.run_id);
            plan.act(key, GAP, Action::Announce { name, value }, evidence);
        }
    }
}
