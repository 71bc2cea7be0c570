//! Every word of the vocabulary prints and parses back.

use super::*;

#[test]
fn hook_points_print_and_parse_back() {
    for site in Site::ALL {
        let at = HookPoint::new(site, 19);
        assert_eq!(at.to_string().parse::<HookPoint>().unwrap(), at);
    }
    assert_eq!(HookPoint::new(Site::Z, 19).to_string(), "blocks.19.attn.hook_z");
    assert!("blocks.19.attn.hook_zz".parse::<HookPoint>().is_err());
    assert!("attn.hook_z".parse::<HookPoint>().is_err());
    assert!("blocks.3.hook_embed".parse::<HookPoint>().is_err());
}

#[test]
fn heads_read_in_three_spellings() {
    for text in ["L19.H17", "L19H17", "19.17"] {
        assert_eq!(text.parse::<HeadRef>().unwrap().to_string(), "L19.H17");
    }
    for text in ["", "L19", "H17", "19", "L-1.H2", "19.17.3", "LH"] {
        assert!(text.parse::<HeadRef>().is_err(), "{text}");
    }
}

#[test]
fn positions_and_layers_print_and_parse_back() {
    for text in ["all", "last", "3,-1", "span:third"] {
        assert_eq!(text.parse::<Positions>().unwrap().to_string(), text);
    }
    for text in ["", "span:", "x", "1;2"] {
        assert!(text.parse::<Positions>().is_err(), "{text}");
    }
    assert_eq!("2..4".parse::<Layers>().unwrap().resolve(4).unwrap(), 2..4);
    assert_eq!("..".parse::<Layers>().unwrap().resolve(4).unwrap(), 0..4);
    assert_eq!("3".parse::<Layers>().unwrap().resolve(4).unwrap(), 3..4);
    assert!("2..5".parse::<Layers>().unwrap().resolve(4).is_err());
    assert!("3..3".parse::<Layers>().unwrap().resolve(4).is_err());
}
