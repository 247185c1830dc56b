//! Other numbers of masters and replicas, and pods beyond the first shape.

use anyhow::{Result, ensure};
use testbed::{Role, Testbed, wait};

use crate::common::*;

async fn forms(masters: usize, replicas_per_master: usize) -> Result<()> {
    let name = format!("{masters}x{replicas_per_master}");
    let bed = bed(&name)
        .shape(masters, replicas_per_master)
        .build()
        .await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    let canary = bed.write_canary(&name, 100).await?;
    bed.silent(QUIET).await?;
    canary.intact(&bed).await?;
    bed.finish().await
}

/// Scenario 10c: one master, two replicas.
#[tokio::test]
async fn one_master_with_two_replicas_forms() -> Result<()> {
    forms(1, 2).await
}

/// Scenario 10c: three masters alone.
#[tokio::test]
async fn three_masters_alone_form() -> Result<()> {
    forms(3, 0).await
}

/// Scenario 10c: five masters with two replicas each.
#[tokio::test]
async fn five_masters_with_two_replicas_each_form() -> Result<()> {
    forms(5, 2).await
}

/// Scenario 10c: a number of masters that does not divide the slots.
#[tokio::test]
async fn seven_masters_share_the_slots_evenly() -> Result<()> {
    forms(7, 0).await
}

/// Fewer than three masters cannot elect a successor: everybody says so, and is ready.
#[tokio::test]
async fn two_masters_form_and_warn_that_they_cannot_elect() -> Result<()> {
    let bed = bed("2x1").shape(2, 1).build().await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    for pod in bed.pods() {
        says(&pod, "too-few-masters", "").await?;
    }
    bed.finish().await
}

/// A pod beyond the first shape joins the shard with the fewest replicas, not simply its own.
#[tokio::test]
async fn a_pod_beyond_the_first_shape_replicates_the_neediest_master() -> Result<()> {
    let (bed, before) = formed("beyond").await?;
    let canary = bed.write_canary("beyond", 100).await?;
    // By hand: two replicas for master 0, none for master 1. Ordinal 6 would be master 0's.
    let zero = &before.nodes[&0].node_id;
    bed.pod(4)?
        .command::<()>(&["CLUSTER", "REPLICATE", zero])
        .await?;
    wait::until(LONG, "all know of the move", async || {
        let snapshot = bed.truth().await.whole()?;
        ensure!(snapshot.replicas_of(0) == [3, 4], "{snapshot}");
        Ok(())
    })
    .await?;

    let ordinal = bed.add_pod().await?;
    bed.start_pod(ordinal).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.nodes[&ordinal].role == Role::Replica, "{after}");
    ensure!(after.replicas_of(1) == [ordinal], "{after}");
    bed.all_ready(LONG).await?;

    // The next ones, at once: nobody has fewer than one, so each follows its own ordinal.
    let (seven, eight) = (bed.add_pod().await?, bed.add_pod().await?);
    bed.start_pod(seven).await?;
    bed.start_pod(eight).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.replicas_of(1) == [ordinal, seven], "{after}");
    ensure!(after.replicas_of(2) == [5, eight], "{after}");
    bed.all_ready(LONG).await?;
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Masters alone, then replicas added one by one.
#[tokio::test]
async fn replicas_added_to_masters_alone_spread_over_them() -> Result<()> {
    let bed = bed("3x0-and-three").shape(3, 0).build().await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    for _ in 0..3 {
        let ordinal = bed.add_pod().await?;
        bed.start_pod(ordinal).await?;
        let after = bed.whole(LONG).await?;
        ensure!(after.replicas_of(ordinal - 3) == [ordinal], "{after}");
    }
    bed.all_ready(LONG).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// All pods on one machine: the replicas say that they share it with their masters, and are ready.
#[tokio::test]
async fn a_replica_on_its_masters_machine_says_so() -> Result<()> {
    let bed = bed("one-machine")
        .agent_env("NODE_NAME", "worker-1")
        .build()
        .await?;
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    bed.all_ready(LONG).await?;
    let pod = bed.pod(4)?;
    wait::until(
        LONG,
        "the replica knows where its master runs",
        async || {
            let answer = pod.get("/readyz").await?;
            let says =
                "replica-placement: runs on the node worker-1, as its master redis-app-1 does";
            ensure!(
                answer.status == 200 && answer.body.contains(says),
                "{answer:?}"
            );
            Ok(())
        },
    )
    .await?;
    let master = bed.pod(1)?.get("/readyz").await?;
    ensure!(!master.body.contains("replica-placement"), "{master:?}");
    bed.silent(QUIET).await?;
    bed.finish().await
}

/// Where Kubernetes says that a pod runs.
fn placed(bed: &Testbed, ordinal: usize, node: &str, zone: &str) -> Result<()> {
    bed.pod(ordinal)?.change(|settings| {
        let env = [("NODE_NAME", node), ("ZONE", zone)];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        settings.agent_env.extend(env);
    });
    Ok(())
}

/// Who joins later goes away from a master's machine, and from its zone, though its number says otherwise.
#[tokio::test]
async fn a_pod_that_joins_goes_away_from_its_masters_machine_and_zone() -> Result<()> {
    let bed = bed("places").build().await?;
    for (ordinal, node, zone) in [
        (0, "worker-0", "east"),
        (1, "worker-1", "east"),
        (2, "worker-2", "west"),
        (3, "worker-3", "west"),
        (4, "worker-4", "west"),
        (5, "worker-5", "east"),
    ] {
        placed(&bed, ordinal, node, zone)?;
    }
    bed.start_all().await?;
    formed_as_planned(&bed).await?;
    let canary = bed.write_canary("places", 100).await?;

    // By its number redis-app-0's, which is on its machine; redis-app-1 is in its zone.
    let six = bed.add_pod().await?;
    placed(&bed, six, "worker-0", "east")?;
    bed.start_pod(six).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.nodes[&six].replica_of == Some(2), "{after}");
    // By its number redis-app-1's, which is on its machine; nobody is in its zone.
    let seven = bed.add_pod().await?;
    placed(&bed, seven, "worker-1", "north")?;
    bed.start_pod(seven).await?;
    let after = bed.whole(LONG).await?;
    ensure!(after.nodes[&seven].replica_of == Some(0), "{after}");

    bed.all_ready(LONG).await?;
    for pod in bed.pods() {
        let said = reason(&pod, "replica-placement").await;
        ensure!(said.is_err(), "{}: {said:?}", pod.name);
    }
    canary.intact(&bed).await?;
    bed.silent(QUIET).await?;
    bed.finish().await
}
