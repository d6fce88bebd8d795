/*
 * impl.h — what the files of campaign share among themselves.
 */
#ifndef LEM_CAMPAIGN_IMPL_H
#define LEM_CAMPAIGN_IMPL_H

#include "campaign/campaign.h"

/* One file of the command line: cells' trees, and the configurations made of them. */
struct campaign_source {
	const char *path;
	struct config_cells *cells;
	struct config **configs;
	size_t n;
};

#endif
