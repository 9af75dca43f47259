#pragma once
#define DISTRHO_PLUGIN_BRAND "blackbox_fx"
#define DISTRHO_PLUGIN_NAME "Misbehave"
#define DISTRHO_PLUGIN_URI "urn:blackbox_fx:misbehave"
#define DISTRHO_PLUGIN_CLAP_ID "blackbox_fx.misbehave"
#define DISTRHO_PLUGIN_HAS_UI 0
#define DISTRHO_PLUGIN_IS_RT_SAFE 1
#define DISTRHO_PLUGIN_NUM_INPUTS 2
#define DISTRHO_PLUGIN_NUM_OUTPUTS 2
#define DISTRHO_PLUGIN_WANT_LATENCY 1
#define DISTRHO_PLUGIN_VST3_CATEGORIES "Fx|Tools"
