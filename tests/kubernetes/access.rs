//! Clients that are not in the cluster's network.

use crate::stage::Stage;
use crate::table::row;
use anyhow::{Context, Result, ensure};

/// The user has no DNS of the cluster. It knows each pod's name, as the address of that pod's own Service:
/// a load balancer's where there is one, else the one that such a balancer would send on to. No address of
/// a pod is among them, and the names stay when the pods move.
#[tokio::test]
#[ignore = "make e2e"]
async fn a_client_from_outside_goes_by_names() -> Result<()> {
    let stage = Stage::open("access").await?;
    stage.apply(&["access"], "")?;
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
    // Slot 15891, the third master's.
    let said = stage.redis("redis-app-0", "GET {t}\n")?;
    let moved = format!("MOVED 15891 {}:6379", names[2].0);
    ensure!(said.contains(&moved), "a client is sent elsewhere: {said}");

    stage.outsider(&names).await?;
    let before = [stage.pod(0)?];
    stage.kubectl(&["delete", "pod", &before[0].name, "--wait=false"])?;
    let (snapshot, took) = stage.replaced(&before, 6).await?;
    ensure!(snapshot.ids() == ids, "somebody was reborn:\n{snapshot}");
    let now = stage.pod(0)?.ip;
    ensure!(now != before[0].ip, "it has not moved");
    let book = stage.book().await?;
    book.keeps_all()?;
    row(
        "a master's pod deleted, clients by name from outside",
        took,
        &book.to_string(),
    );
    stage.close().await
}
