package stem

// Base returns the base form of an irregular English verb, noun or adjective
// that word is another form of, else word itself: "went" is "go". Who asks "where
// did she go" means what was told as "she went". word is lower case; Base does not
// change it. Forms that are as often another word are left out: "lives", "leaves".
func Base(word []byte) []byte {
	if base := baseOf(string(word)); base != "" {
		return []byte(base)
	}
	return word
}

// baseOf returns the base form of word, or nothing if it has no entry.
//
//nolint:funlen // a table; the compiler makes it a binary search
func baseOf(word string) string {
	switch word {
	case "became":
		return "become"
	case "began", "begun":
		return "begin"
	case "bent":
		return "bend"
	case "bit", "bitten":
		return "bite"
	case "bled":
		return "bleed"
	case "blew", "blown":
		return "blow"
	case "broke", "broken":
		return "break"
	case "bred":
		return "breed"
	case "brought":
		return "bring"
	case "built":
		return "build"
	case "burnt":
		return "burn"
	case "bought":
		return "buy"
	case "caught":
		return "catch"
	case "chose", "chosen":
		return "choose"
	case "came":
		return "come"
	case "crept":
		return "creep"
	case "dealt":
		return "deal"
	case "dug":
		return "dig"
	case "drew", "drawn":
		return "draw"
	case "dreamt":
		return "dream"
	case "drank", "drunk":
		return "drink"
	case "drove", "driven":
		return "drive"
	case "ate", "eaten":
		return "eat"
	case "fell", "fallen":
		return "fall"
	case "fed":
		return "feed"
	case "felt":
		return "feel"
	case "fought":
		return "fight"
	case "found":
		return "find"
	case "fled":
		return "flee"
	case "flew", "flown":
		return "fly"
	case "forbade", "forbidden":
		return "forbid"
	case "forgot", "forgotten":
		return "forget"
	case "forgave", "forgiven":
		return "forgive"
	case "froze", "frozen":
		return "freeze"
	case "got", "gotten":
		return "get"
	case "gave", "given":
		return "give"
	case "went", "gone":
		return "go"
	case "grew", "grown":
		return "grow"
	case "hung":
		return "hang"
	case "heard":
		return "hear"
	case "hid", "hidden":
		return "hide"
	case "held":
		return "hold"
	case "kept":
		return "keep"
	case "knelt":
		return "kneel"
	case "knew", "known":
		return "know"
	case "laid":
		return "lay"
	case "led":
		return "lead"
	case "learnt":
		return "learn"
	case "left":
		return "leave"
	case "lent":
		return "lend"
	case "lain":
		return "lie"
	case "lit":
		return "light"
	case "lost":
		return "lose"
	case "made":
		return "make"
	case "meant":
		return "mean"
	case "met":
		return "meet"
	case "paid":
		return "pay"
	case "rode", "ridden":
		return "ride"
	case "rang", "rung":
		return "ring"
	case "rose", "risen":
		return "rise"
	case "ran":
		return "run"
	case "said":
		return "say"
	case "saw", "seen":
		return "see"
	case "sought":
		return "seek"
	case "sold":
		return "sell"
	case "sent":
		return "send"
	case "sewn":
		return "sew"
	case "shook", "shaken":
		return "shake"
	case "shone":
		return "shine"
	case "shot":
		return "shoot"
	case "shown":
		return "show"
	case "shrank", "shrunk":
		return "shrink"
	case "sang", "sung":
		return "sing"
	case "sank", "sunk":
		return "sink"
	case "sat":
		return "sit"
	case "slept":
		return "sleep"
	case "slid":
		return "slide"
	case "spoke", "spoken":
		return "speak"
	case "sped":
		return "speed"
	case "spent":
		return "spend"
	case "spun":
		return "spin"
	case "stood":
		return "stand"
	case "stole", "stolen":
		return "steal"
	case "stuck":
		return "stick"
	case "struck", "stricken":
		return "strike"
	case "swore", "sworn":
		return "swear"
	case "swept":
		return "sweep"
	case "swam", "swum":
		return "swim"
	case "swung":
		return "swing"
	case "took", "taken":
		return "take"
	case "taught":
		return "teach"
	case "tore", "torn":
		return "tear"
	case "told":
		return "tell"
	case "thought":
		return "think"
	case "threw", "thrown":
		return "throw"
	case "understood":
		return "understand"
	case "woke", "woken":
		return "wake"
	case "wore", "worn":
		return "wear"
	case "wove", "woven":
		return "weave"
	case "wept":
		return "weep"
	case "won":
		return "win"
	case "wrote", "written":
		return "write"
	case "children":
		return "child"
	case "feet":
		return "foot"
	case "geese":
		return "goose"
	case "men":
		return "man"
	case "mice":
		return "mouse"
	case "teeth":
		return "tooth"
	case "women":
		return "woman"
	case "people":
		return "person"
	case "wives":
		return "wife"
	case "knives":
		return "knife"
	case "better", "best":
		return "good"
	case "worse", "worst":
		return "bad"
	}
	return ""
}
