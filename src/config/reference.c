/* The tables as a documentation page: docs/config-reference.md is this text. */
#include "base/num.h"
#include "config/impl.h"

static const char *const intro =
	"# Configuration reference\n"
	"\n"
	"Written by `lem config reference` from the tables that also read the file; do not edit it "
	"by hand.\n"
	"\n"
	"One YAML (`.yaml`, `.yml`) or JSON (`.json`) file is one experiment. `lem config validate "
	"FILE` checks it without\n"
	"touching hardware, `lem config show FILE --provenance` shows every value in force and "
	"where it came from.\n"
	"\n"
	"## Rules\n"
	"- Layers, low to high: defaults, preset (`--preset`), file (after `_extends`), `--set "
	"path=value` and other flags.\n"
	"  Maps merge key by key; everything else, lists too, is replaced. An explicit `null` asks "
	"for the default again.\n"
	"- `_extends: base.yaml` builds on another file. The path is relative to the file that "
	"says it; no file of the chain\n"
	"  may lie outside the folder of the first one.\n"
	"- Every finding is reported at once, with file, line and column. An unknown key is an "
	"error at any depth, and so is an\n"
	"  option that the chosen engine would not honour, or the section of another engine.\n"
	"- Engines: an option without a list of engines is honoured by all.\n"
	"- `gpus` decides which GPUs are used and metered. The engine's parallel sizes must "
	"multiply to their number: more is an\n"
	"  error, fewer a warning (an error with `strict_gpus`). Without the key it is `[0]`, for "
	"`llamacpp` and `openai` `[]`\n"
	"  (the embedded engine runs on the CPU unless told otherwise; of a server lem only knows "
	"what it is told).\n"
	"- Anchors, aliases and merge keys (`<<`) work; a file may hold one document, 1 MiB, 64 "
	"levels and 50000 values.\n"
	"- The config hash is the first 16 hex digits of the SHA-256 of the effective values of "
	"the engine in use, as JSON with\n"
	"  sorted keys, before anything is resolved on the machine. Left out, because they cannot "
	"change the measurement:\n"
	"  `config_name`, `schema_version`, `io.results_dir`, `timeseries.enabled`, `docker.pull`, "
	"`extra_metadata`.\n";

static void add_number(struct str *out, double v)
{
	if (v >= OPTION_INT_MAX)
		str_add(out, v == OPTION_SEED_MAX  ? "2^53 − 1"
			     : v == OPTION_INT_MAX ? "2^31 − 1"
						   : "10^18");
	else
		str_addf(out, "%.10g", v);
}

static void add_range(struct str *out, const struct option *o)
{
	if (!option_has_range(o))
		return;
	if (o->type == OPT_BYTES) {
		char lo[24], hi[24];

		str_addf(out, "%s – %s", num_format_bytes((uint64_t)o->min, lo, sizeof(lo)),
			 num_format_bytes((uint64_t)o->max, hi, sizeof(hi)));
		return;
	}
	if (o->max == OPTION_INT_MAX || (o->above && o->max >= 1e6)) {
		str_addf(out, "%s %.10g", o->above ? ">" : "≥", o->min);
		return;
	}
	str_add(out, o->above ? "above " : "");
	add_number(out, o->min);
	str_add(out, o->above ? " to " : " – ");
	add_number(out, o->max);
}

static void add_choices(struct str *out, const struct option *o)
{
	for (size_t i = 0; o->choices[i]; i++)
		str_addf(out, "%s`%s`", i ? ", " : "", o->choices[i]);
	for (const struct choice_alias *a = o->choice_aliases; a && a->old; a++)
		str_addf(out, ", `%s` (= `%s`)", a->old, a->now);
}

static const char *type_name(enum option_type t)
{
	static const char *const names[] = {"bool",
					    "int",
					    "int",
					    "number",
					    "number",
					    "text",
					    "choice",
					    "choice",
					    "list of texts",
					    "list of numbers",
					    "map",
					    "list",
					    "bool or choice",
					    "int or `auto`",
					    "size",
					    "int or section",
					    "section"};

	return names[t];
}

static void add_engines(struct str *out, const struct option *o)
{
	size_t n = 0;

	if (!o->engines)
		return;
	str_add(out, " Engines: ");
	for (enum backend b = 0; b < BACKEND_COUNT; b++)
		if (option_honoured(o, b))
			str_addf(out, "%s%s", n++ ? ", " : "", backend_name(b));
	str_addc(out, '.');
}

static void add_row(struct str *out, const struct option *o)
{
	str_addf(out, "| `%s` | %s | ", o->name, type_name(o->type));
	if (o->required)
		str_add(out, "**required**");
	else if (o->def)
		str_addf(out, "`%s`", o->def);
	else
		str_add(out, o->type == OPT_KV         ? "`{}`"
			     : o->type == OPT_F64_LIST ? "`[]`"
						       : "`null`");
	str_add(out, " | ");
	if (o->choices)
		add_choices(out, o);
	add_range(out, o);
	if (o->unit)
		str_addf(out, "%s%s", option_has_range(o) ? " " : "", o->unit);
	str_addf(out, " | %s", o->help ? o->help : "");
	add_engines(out, o);
	str_add(out, " |\n");
}

static void add_section(struct str *out, const struct section *s)
{
	if (s->path[0])
		str_addf(out, "\n## `%s`\n%s", s->path, s->help);
	else
		str_add(out, "\n## Top level\n");
	if (s->shorthand)
		str_addf(out, " `%s: X` is short for `%s: {%s: X}`.", s->path, s->path,
			 s->shorthand);
	str_add(out, "\n\n| key | type | default | values | meaning |\n|---|---|---|---|---|\n");
	for (size_t i = 0; i < s->n; i++)
		if (option_is_key(&s->options[i]) && s->options[i].type != OPT_MAP)
			add_row(out, &s->options[i]);
	if (!s->path[0])
		str_addf(out, "| `_extends` | text | `null` |  | %s |\n",
			 section_find(s, "_extends")->help);
	for (size_t i = 0; i < s->n; i++)
		if (option_is_key(&s->options[i]) &&
		    (s->options[i].type == OPT_MAP || s->options[i].type == OPT_LENGTHS))
			add_section(out, s->options[i].sub);
}

static void add_old(struct str *out, const struct section *s, enum verdict verdict)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct option *o = &s->options[i];
		const char *dot = s->path[0] ? "." : "";

		if (o->verdict == verdict && !(o->verdict == RENAME && o->sub) &&
		    !str_eq(o->name, "_extends")) {
			if (verdict == RENAME)
				str_addf(out, "| `%s%s%s` | `%s` |\n", s->path, dot, o->name,
					 o->to);
			else
				str_addf(out, "| `%s%s%s` | %s%s%s |\n", s->path, dot, o->name,
					 o->help, o->to ? "; " : "", o->to ? o->to : "");
		}
		if (o->sub)
			add_old(out, o->sub, verdict);
	}
}

static void add_presets(struct str *out)
{
	str_add(out, "\n## Presets\n`--preset NAME` lies below the file. None names a model or "
		     "prompts.\n");
	for (size_t i = 0; preset_at(i); i++) {
		const struct preset *p = preset_at(i);

		str_addf(out, "\n### %s\n%s\n", p->name, p->description);
		if (!p->refused)
			str_addf(out, "```yaml\n%s```\n", p->yaml);
	}
	str_add(out, "\n### Decoder presets\n`decoder.preset` fills the other keys of `decoder`; "
		     "keys written beside it win.\n\n"
		     "| preset | temperature | do_sample | top_p | repetition_penalty "
		     "|\n|---|---|---|---|---|\n");
	for (size_t i = 0; i < n_decoder_presets; i++) {
		const struct decoder_preset *p = &decoder_presets[i];

		str_addf(out, "| `%s` | %s | %s | %s | %s |\n", p->name, p->temperature,
			 p->do_sample, p->top_p ? p->top_p : "",
			 p->repetition_penalty ? p->repetition_penalty : "");
	}
}

static void add_codes(struct str *out)
{
	static const char *const codes[][2] = {
		{"C00", "more findings than are shown"},
		{"C01", "unknown key"},
		{"C02", "wrong type"},
		{"C03", "out of range, empty, or not of the right form"},
		{"C04", "not one of the choices"},
		{"C05", "missing"},
		{"C06", "not valid YAML or JSON"},
		{"C07", "the file cannot be read as text"},
		{"C08", "`_extends`"},
		{"C09", "a key twice"},
		{"C10", "an old name, accepted"},
		{"C11", "an option that no longer exists"},
		{"C12", "the section of another engine"},
		{"C13", "would have no effect"},
		{"C14", "contradicts another option"},
		{"C15", "not an experiment"},
		{"C16", "a file of another program's version with other defaults"},
		{"C17", "preset"},
		{"C18", "schema version"},
		{"C19", "a file that is named cannot be read"},
		{"C20", "long outputs"},
		{"C21", "decoder: doubtful combination"},
		{"C22", "few samples"},
		{"C23", "engine: doubtful combination"},
		{"C24", "a campaign file"},
		{"R01", "would show the container every GPU of the machine"},
		{"R02", "would choose the container's GPUs beside `gpus`"},
		{"R03", "would choose how GPUs get into the container"},
		{"R04", "GPU selection in `env`"},
		{"R05", "not a GPU, or not a list of GPUs"},
		{"R06", "a GPU twice"},
		{"R08", "MIG slices do not combine"},
		{"R10", "vLLM, SGLang: more or fewer GPUs needed than listed"},
		{"R11", "the same with data parallelism"},
		{"R12", "heads, key/value heads or layers do not allow the size"},
		{"R13", "quantisation blocks do not allow the size"},
		{"R14", "TensorRT-LLM: more or fewer GPUs needed than listed"},
		{"R15", "expert parallel sizes do not multiply to the tensor parallel size"},
		{"R17", "too little shared memory for several GPUs"},
		{"R25", "would hide that an image needs a newer driver"},
		{"R30", "llama.cpp: GPU positions, shares and layers do not fit gpus"},
		{"R31", "PyTorch: more or fewer GPUs needed than listed"},
		{"R32", "an extra argument would choose GPUs"},
		{"R37", "a number of GPUs does not say which"},
	};

	str_add(out, "\n## Codes of findings\n| code | about |\n|---|---|\n");
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		str_addf(out, "| %s | %s |\n", codes[i][0], codes[i][1]);
}

void config_reference_md(struct str *out)
{
	str_add(out, intro);
	add_section(out, &section_experiment);
	add_presets(out);
	str_add(out, "\n## Old names\nAccepted; real renames with one notice. `@engine` is the "
		     "section of the backend in use.\n\n| old | new |\n|---|---|\n");
	add_old(out, &section_experiment, RENAME);
	str_add(out, "\n## Keys without effect\nAccepted and left out, with one notice.\n\n| key | "
		     "why |\n|---|---|\n");
	add_old(out, &section_experiment, DROP);
	str_add(out, "\n## Removed keys\nRefused, with what to do instead.\n\n| key | why; what to "
		     "do |\n|---|---|\n");
	add_old(out, &section_experiment, REJECT);
	add_codes(out);
}
