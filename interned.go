package engram

import "strings"

// interned is what documents have in common, each kept once: episodes, and the keys
// and values of attributes. Episodes that the image has keep their numbers there,
// others have higher ones in the order of coming.
type interned struct {
	image       *image
	episodes    map[string]*episode
	lastEpisode uint32 // the highest number
	strings     map[string]string
	text        int // bytes of all of them
}

func newInterned(m *image) interned {
	return interned{
		image: m, episodes: make(map[string]*episode), lastEpisode: m.episodeNames.len(),
		strings: make(map[string]string),
	}
}

func (x *interned) episode(name string) *episode {
	e := x.episodes[name]
	if e != nil {
		return e
	}
	e = &episode{name: strings.Clone(name)}
	if i, found := x.image.byEpisode.lookup(&x.image.episodeNames, name); found {
		e.number = i + 1
	} else {
		x.lastEpisode++
		e.number = x.lastEpisode
	}
	x.episodes[e.name] = e
	x.text += len(name)
	return e
}

func (x *interned) attributes(m map[string]string) []attribute {
	if len(m) == 0 {
		return nil
	}
	list := make([]attribute, 0, len(m))
	for _, key := range sortedKeys(m) {
		list = append(list, x.attribute(key, m[key]))
	}
	return list
}

func (x *interned) attribute(key, value string) attribute {
	return attribute{x.string(key), x.string(value)}
}

func (x *interned) string(v string) string {
	if known, found := x.strings[v]; found {
		return known
	}
	v = strings.Clone(v)
	x.strings[v] = v
	x.text += len(v)
	return v
}
