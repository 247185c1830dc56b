//! Names and shapes: examples by hand, and laws over generated text.

use proptest::prelude::*;

use super::*;

#[test]
fn a_pod_name_keeps_the_dashes_of_its_set() {
    let pod: PodName = "redis-app-12".parse().unwrap();
    assert_eq!((pod.set.as_str(), pod.ordinal), ("redis-app", 12));
    assert_eq!(pod.sibling(0).to_string(), "redis-app-0");
}

#[test]
fn what_is_no_pod_name_is_told_what_is_taken() {
    let odd = [
        "",
        "redis",
        "redis-",
        "-0",
        "redis-01",
        "redis-+1",
        "redis--1x",
        "Redis-0",
        "redis-0\n",
        "redis--1",
        "a.b-0",
        "redis-4294967296",
        "redis-0 ",
        "-redis-0",
        "rédis-0",
    ];
    for text in odd {
        let refusal = text.parse::<PodName>().expect_err(text);
        assert!(refusal.to_string().contains("<statefulset>-<ordinal>"));
    }
    assert!(format!("{}-0", "a".repeat(62)).parse::<PodName>().is_err());
}

#[test]
fn a_node_id_is_forty_lower_case_hex_characters() {
    let text = "07c37dfeb235213a872192d90877d0cd55635b91";
    let id: NodeId = text.parse().unwrap();
    assert_eq!(id.to_string(), text);
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
    for odd in ["", &text[1..], &text.to_uppercase(), &format!("{text}0")] {
        assert!(odd.parse::<NodeId>().is_err(), "{odd}");
    }
}

#[test]
fn a_shape_counts_its_pods_and_knows_its_limits() {
    let shape: Shape = "3x1".parse().unwrap();
    assert_eq!(
        (shape.expected_pods(), shape.to_string()),
        (6, "3x1".into())
    );
    assert!("1x0".parse::<Shape>().is_ok());
    assert!("1000x0".parse::<Shape>().is_ok());
    for odd in [
        "0x1",
        "1001x0",
        "500x2",
        "3",
        "x",
        "3x",
        "03x1",
        "3x-1",
        "65535x65535",
        "3X1",
    ] {
        assert!(odd.parse::<Shape>().is_err(), "{odd}");
    }
}

#[test]
fn a_cluster_name_has_two_labels() {
    let name: ClusterName = "default/redis-app".parse().unwrap();
    let pod: PodName = "redis-app-3".parse().unwrap();
    assert_eq!(name, ClusterName::of("default", &pod));
    for odd in ["", "/", "default", "default/", "/redis", "a/b/c", "a /b"] {
        assert!(odd.parse::<ClusterName>().is_err(), "{odd}");
    }
}

/// Whatever parses prints back to the same text.
fn prints_back<T: FromStr + fmt::Display>(text: &str) -> bool {
    text.parse::<T>().is_err()
        || text
            .parse::<T>()
            .is_ok_and(|value| value.to_string() == text)
}

proptest! {
    #[test]
    fn no_text_breaks_a_parser(text in any::<String>()) {
        prop_assert!(prints_back::<PodName>(&text));
        prop_assert!(prints_back::<NodeId>(&text));
        prop_assert!(prints_back::<Shape>(&text));
        prop_assert!(prints_back::<ClusterName>(&text));
    }

    #[test]
    fn nearly_right_text_prints_back(text in "[a0-]{0,6}[-/x]?[0-9x]{0,5}") {
        prop_assert!(prints_back::<PodName>(&text));
        prop_assert!(prints_back::<Shape>(&text));
        prop_assert!(prints_back::<ClusterName>(&text));
    }

    #[test]
    fn pods_print_and_parse(set in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?", ordinal in any::<u32>()) {
        let pod = PodName { set, ordinal };
        prop_assert_eq!(pod.to_string().parse::<PodName>(), Ok(pod));
    }

    #[test]
    fn node_ids_print_parse_and_sort_as_text(one in "[0-9a-f]{40}", two in "[0-9a-f]{40}") {
        let ids = (one.parse::<NodeId>().unwrap(), two.parse::<NodeId>().unwrap());
        prop_assert_eq!(ids.0.to_string(), &*one);
        prop_assert_eq!(ids.0.cmp(&ids.1), one.cmp(&two));
    }

    #[test]
    fn shapes_print_and_parse(masters in any::<u16>(), replicas in 0..2000_u16) {
        if let Ok(shape) = Shape::new(masters, replicas) {
            prop_assert!(shape.expected_pods() <= PODS_MAX);
            prop_assert_eq!(shape.to_string().parse::<Shape>(), Ok(shape));
        }
    }
}
