#include "base/vec.h"
#include "campaign/impl.h"

enum { MAX_FINDINGS = 200 };

void campaign_release(struct campaign *c)
{
	for (size_t i = 0; i < c->n_sources; i++) {
		for (size_t k = 0; k < c->sources[i].n; k++)
			config_free(c->sources[i].configs[k]);
		config_cells_free(c->sources[i].cells);
	}
	for (size_t i = 0; i < c->n; i++)
		free(c->cells[i].levels);
	arena_release(&c->arena);
	*c = (struct campaign){0};
}

bool campaign_ok(const struct campaign *c)
{
	return c->findings.n_errors == 0;
}

static bool same_finding(const struct finding *a, const struct finding *b)
{
	return a->line == b->line && a->column == b->column && str_eq(a->file, b->file) &&
	       str_eq(a->code, b->code) && str_eq(a->field, b->field) &&
	       str_eq(a->origin, b->origin) && str_eq(a->message, b->message);
}

/* What stands in the part that experiments share is said once. */
static void add_findings(struct campaign *c, const struct finding_list *list)
{
	struct finding_list *all = &c->findings;

	for (size_t i = 0; i < list->n; i++) {
		const struct finding *f = &list->at[i];
		bool known = false;

		for (size_t k = 0; k < all->n && !known; k++)
			known = same_finding(&all->at[k], f);
		if (known)
			continue;
		all->n_errors += f->severity == SEVERITY_ERROR;
		all->n_warnings += f->severity == SEVERITY_WARNING;
		if (all->n < MAX_FINDINGS)
			all->at[all->n++] = *f;
		else
			all->at[all->n - 1] = (struct finding){
				.severity = SEVERITY_ERROR,
				.code = "C00",
				.field = "",
				.message = "more findings are not shown",
				.suggestion = "mend the ones above first",
			};
	}
}

static bool is_taken(const struct campaign *c, const char *name)
{
	for (size_t i = 0; i < c->n; i++)
		if (str_eq(c->cells[i].name, name))
			return true;
	return false;
}

/* Runs are told apart by their names: a second "x" is "x-2". */
static void name_cell(struct campaign *c, struct config *config, struct campaign_cell *cell)
{
	const char *name = config_experiment(config)->config_name, *base = name;

	for (size_t k = 2; is_taken(c, name); k++)
		name = arena_printf(&c->arena, "%s-%zu", base, k);
	if (name != base)
		config_rename(config, name, "a second experiment of this name in the campaign");
	cell->name = name;
}

static void add_cell(struct campaign *c, const struct campaign_source *s, struct config *config,
		     size_t i)
{
	struct campaign_cell cell = {
		.file = s->path,
		.campaign = config_cells_name(s->cells),
		.item = config_cells_plain(s->cells) ? 0 : i + 1,
		.config = config,
		.output_tokens_per_s = quantity_unknown("not run"),
		.j_per_output_token = quantity_unknown("not run"),
	};

	name_cell(c, config, &cell);
	config_hash(config, cell.config_hash);
	c->cells[c->n++] = cell;
}

static int load_cells(struct campaign *c, const struct campaign_request *q,
		      struct campaign_source *s, struct lem_error *err)
{
	size_t n = config_cells_n(s->cells);

	s->configs = arena_array(&c->arena, n + 1, sizeof(*s->configs));
	for (s->n = 0; s->n < n; s->n++) {
		struct config_request one = {
			.path = s->path,
			.cells = s->cells,
			.cell = s->n,
			.overrides = q->overrides,
			.n_overrides = q->n_overrides,
			.shape = q->shape,
		};
		int rc = config_load(&one, &s->configs[s->n], err);

		if (rc < 0)
			return rc;
		add_findings(c, config_findings(s->configs[s->n]));
	}
	return 0;
}

static int load_source(struct campaign *c, const struct campaign_request *q, const char *path,
		       struct lem_error *err)
{
	struct campaign_source *s = &c->sources[c->n_sources];
	int rc = config_cells_read(path, &s->cells, err);

	if (rc < 0)
		return rc;
	s->path = path;
	c->n_sources++;
	add_findings(c, config_cells_findings(s->cells));
	return load_cells(c, q, s, err);
}

int campaign_load(const struct campaign_request *q, struct campaign *ret, struct lem_error *err)
{
	struct campaign *c = ret;
	size_t n = 0;

	*c = (struct campaign){0};
	c->sources = arena_array(&c->arena, q->n_files + 1, sizeof(*c->sources));
	c->findings.at = arena_array(&c->arena, MAX_FINDINGS, sizeof(*c->findings.at));
	for (size_t i = 0; i < q->n_files; i++) {
		int rc = load_source(c, q, q->files[i], err);

		if (rc < 0)
			return rc;
		n += c->sources[i].n;
	}
	c->cells = arena_array(&c->arena, n + 1, sizeof(*c->cells));
	for (size_t i = 0; i < c->n_sources && campaign_ok(c); i++)
		for (size_t k = 0; k < c->sources[i].n; k++)
			add_cell(c, &c->sources[i], c->sources[i].configs[k], k);
	return 0;
}
