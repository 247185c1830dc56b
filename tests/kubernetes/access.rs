//! Clients that are not in the cluster's network.

use crate::stage::{LONG, Stage};
use crate::table::row;
use anyhow::{Context, Result, ensure};
use testbed::wait;

/// The user has no DNS of the cluster. It knows each pod's name, as the address of that pod's own Service:
/// a load balancer's where there is one, else the one that such a balancer would send on to. No address of
/// a pod is among them, and the names stay when the pods move.
#[tokio::test]
#[ignore = "make e2e"]
async fn a_client_from_outside_goes_by_names() -> Result<()> {
    let stage = Stage::open("access").await?.with_password()?;
    stage.apply(&["access", "password"], "")?;
    let ids = stage.up(6).await?;
    let mut names = Vec::new();
    for pod in stage.pods()? {
        let service = stage.json(&["get", "service", &pod.name])?;
        let balancer = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
        let address = balancer.or(service["spec"]["clusterIP"].as_str());
        let address = address.with_context(|| format!("no address: {service}"))?;
        let domain = format!("redis-headless.{}.svc.cluster.local", stage.namespace);
        names.push((format!("{}.{domain}", pod.name), address.to_owned()));
    }
    sent_to_names(&stage, &names).await?;
    stage.outsider(&names).await?;
    let before = [stage.pod(0)?];
    stage.kubectl(&["delete", "pod", &before[0].name, "--wait=false"])?;
    let (snapshot, took) = stage.replaced(&before, 6).await?;
    ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
    let now = stage.pod(0)?.ip;
    ensure!(now != before[0].ip, "it has not moved");
    sent_to_names(&stage, &names).await?;
    let book = stage.book().await?;
    book.keeps_all()?;
    row(
        "a master's pod deleted, clients by name from outside",
        took,
        &book.to_string(),
    );
    stage.close().await
}

/// Every node sends clients to names alone, its own included. A replica is among them once something has been
/// replicated (`isReplicaAvailable`).
async fn sent_to_names(stage: &Stage, names: &[(String, String)]) -> Result<()> {
    wait::until(LONG, "every node names every one", async || {
        for pod in stage.pods()? {
            let said = stage.redis(&pod.name, "CLUSTER SLOTS\n")?;
            for (name, _) in names {
                ensure!(said.contains(name), "{}: no {name}: {said}", pod.name);
            }
            ensure!(!said.contains('?'), "{} knows no name: {said}", pod.name);
        }
        Ok(())
    })
    .await?;
    // Slot 15891 is of one shard; the others' nodes send there by its name.
    let moved = names
        .iter()
        .map(|(name, _)| format!("MOVED 15891 {name}:6379"));
    let moved: Vec<String> = moved.collect();
    let mut sent = 0;
    for pod in stage.pods()? {
        let said = stage.redis(&pod.name, "GET {t}\n")?;
        let by_name = moved.iter().any(|moved| said.contains(moved));
        ensure!(by_name || !said.contains("MOVED"), "{}: {said}", pod.name);
        sent += usize::from(by_name);
    }
    ensure!(sent >= 4, "only {sent} sent a client on");
    Ok(())
}
